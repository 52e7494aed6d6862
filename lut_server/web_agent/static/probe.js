// Facts of a browser about its device, for people: text by name.

export async function probe(clockStepMs, settings) {
  const found = {
    agent: `lutnas ${settings.version} in a browser`,
    "user agent": navigator.userAgent,
    platform: navigator.userAgentData?.platform ?? navigator.platform ?? "unknown",
    cores: String(navigator.hardwareConcurrency ?? "unknown"),
    "memory GB, at least": String(navigator.deviceMemory ?? "unknown"),
    "cross-origin isolated": self.crossOriginIsolated ? "yes" : "no",
    "clock step": `${Number((1000 * clockStepMs).toPrecision(3))} us`,
    webgpu: await adapterName(),
  };
  return Object.fromEntries(Object.entries(found).map(([name, value]) => [name, value.slice(0, 300)]));
}

async function adapterName() {
  if (!navigator.gpu) return "none";
  try {
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter) return "none";
    const { vendor, architecture, description } = adapter.info ?? {};
    return [vendor, architecture, description].filter(Boolean).join(" ") || "unnamed";
  } catch (error) {
    return `none (${error.message})`;
  }
}
