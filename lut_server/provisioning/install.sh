#!/bin/sh
# Installs the lutnas profiler agent on this device, from the lut-server that this script came from:
#
#   curl -fsS http://LUT-SERVER/agent/install.sh | sh -s -- --device NAME --token TOKEN
#
# Everything is checked before anything is changed. Interrupted anywhere, the same command goes on; run again, it
# upgrades. All of it is one function that is called in the last line: of half a download, nothing is run.
set -eu

served_from=@SERVER@
version=@VERSION@
wheel=@WHEEL@
wheel_sha256=@WHEEL_SHA256@
constraints_sha256=@CONSTRAINTS_SHA256@
unit=lutnas-agent.service
unit_folder=/etc/systemd/system
service_spool=/var/lib/lutnas-agent
needs_mb=400

usage() {
  cat <<'TEXT'
usage: install.sh --device NAME (--token TOKEN | --token-file FILE) [OPTION...] [PROFILE FLAG...]

  --device NAME         what this device is called
  --token TOKEN         of role agent; others on this device can see it while the script runs, unlike ...
  --token-file FILE     ... the one in a file, or in the variable LUTNAS_TOKEN; an upgrade needs none
  --lut-url URL         the lut-server, where it is not the one that the script came from
  --ca-file FILE        certificates to trust, of a server that made its own
  --service             start the agent with the system (as root; systemd), to do the server's jobs
  --no-profile          measure nothing now
  --prefix DIR          where to install: /opt/lutnas-agent for root, else ~/.local/share/lutnas/agent
  --python PYTHON       which Python to use: 3.11 or newer, with venv
  --onnxruntime WHAT    what to install in place of onnxruntime: a package or a wheel's file
  --uninstall           remove all that was installed; --purge: the measurements on this device as well

Flags of `profiler-agent profile` go to the first profile: --space (default: nas-bench-201), --resolution, --preset, ...
Exit codes: 0 done, 1 failed, 2 wrong use; else those of the profile.
TEXT
}

say() { printf '%s\n' "$*"; }

fail() { # fail CODE MESSAGE: one line, then the end
  printf 'install.sh: %s\n' "$2" >&2
  exit "$1"
}

# --- what is asked for ------------------------------------------------------------------------------------------------

# Values of flags go into variables, flags of the profile stay in "$@".
main() {
  device='' token=${LUTNAS_TOKEN:-} token_file='' server=$served_from prefix='' python='' ca_file='' runtime=onnxruntime
  service=no profile=yes uninstall=no purge=no preset='' spaces=no
  unset LUTNAS_TOKEN PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX
  export ORT_DISABLE_TELEMETRY=1 # ONNX Runtime's reports to its maker; the agent switches them off, too
  left=$# takes=''
  while [ "$left" -gt 0 ]; do
    argument=$1
    shift
    left=$((left - 1))
    case $argument in
      --*=*) # as two words
        set -- "${argument#*=}" "$@"
        argument=${argument%%=*}
        left=$((left + 1))
        ;;
    esac
    case $argument in
      --device | --token | --token-file | --ca-file | --lut-url | --server | --prefix | --python | --onnxruntime)
        if [ "$left" = 0 ] || [ -z "$1" ]; then fail 2 "$argument needs a value; --help lists all"; fi
        value=$1
        shift
        left=$((left - 1))
        takes=''
        case $argument in
          --device) device=$value ;;
          --token) token=$value ;;
          --token-file) token_file=$value ;;
          --ca-file) ca_file=$value ;;
          --lut-url | --server) server=${value%/} ;;
          --prefix) prefix=$value ;;
          --python) python=$value ;;
          --onnxruntime) runtime=$value ;;
        esac
        ;;
      --service) service=yes takes='' ;;
      --no-profile) profile=no takes='' ;;
      --uninstall) uninstall=yes takes='' ;;
      --purge) purge=yes takes='' ;;
      -h | --help)
        usage
        exit 0
        ;;
      --new | --force)
        set -- "$@" "$argument"
        takes=''
        ;;
      --space | --resolution | --channels | --depth | --cells-per-stage | --classes | --image-channels | --threads | \
        --batch | --precision | --provider | --optimisation | --calibration | --held-out | --seed | --bound-percent | \
        --preset | --memory-mb)
        [ "$argument" != --space ] || spaces=yes
        set -- "$@" "$argument"
        takes=$argument
        ;;
      -*) fail 2 "there is no flag $argument; --help lists all" ;;
      *)
        [ -n "$takes" ] || fail 2 "'$argument' belongs to no flag; --help lists all"
        [ "$takes" != --preset ] || preset=$argument
        set -- "$@" "$argument"
        ;;
    esac
  done

  choose_prefix
  if [ "$uninstall" = yes ]; then
    [ $# -eq 0 ] || fail 2 "--uninstall takes --prefix and --purge alone"
    uninstall_all
    exit 0
  fi
  [ "$purge" = no ] || fail 2 "--purge goes with --uninstall alone"
  [ "$spaces" = yes ] || set -- "$@" --space nas-bench-201
  read_installed
  check_use "$@"
  check_machine
  choose_python
  check_python
  check_disk
  check_server

  install_all
  start "$@"
}

choose_prefix() {
  if [ -z "$prefix" ]; then
    if [ "$(id -u)" = 0 ]; then
      prefix=/opt/lutnas-agent
    else
      prefix=${XDG_DATA_HOME:-${HOME:?is not set}/.local/share}/lutnas/agent
    fi
  fi
  case $prefix in
    *[!A-Za-z0-9/._+@-]*) fail 2 "--prefix '$prefix' has characters that a path of an environment cannot have; name another" ;;
    /*) ;;
    *) prefix=$(pwd)/$prefix ;;
  esac
  prefix=${prefix%/}
  marker=$prefix/.lutnas-agent
  bin=$prefix/env/bin
}

# An earlier installation's own notes: NAME=VALUE lines.
installed() { [ ! -f "$marker" ] || sed -n "s/^$1=//p" "$marker" | tail -n 1; }

# As `profiler-agent` has it.
default_spool() { say "${LUTNAS_SPOOL:-${XDG_STATE_HOME:-${HOME:-/root}/.local/state}/lutnas}"; }

read_installed() {
  if [ ! -f "$marker" ] && [ -d "$prefix" ] && [ -n "$(ls -A "$prefix")" ]; then
    fail 2 "$prefix holds other things; name a folder for the agent alone with --prefix"
  fi
  [ -z "$(installed unit)" ] || service=yes # once a service, it stays one
  spool=$(default_spool)
  [ "$service" = no ] || spool=$service_spool
}

check_use() { # check_use PROFILE FLAG...
  [ -n "$device" ] || fail 2 "--device NAME says what this device is called; --help lists all flags"
  case $device in
    *[!A-Za-z0-9._-]* | [!A-Za-z0-9]*) fail 2 "--device '$device' is not a name of letters, digits, dots, _ and -" ;;
  esac
  [ ${#device} -le 64 ] || fail 2 "--device '$device' is longer than 64 characters"
  case $server in
    *[!]A-Za-z0-9.:/_~[-]*) fail 2 "--lut-url '$server' is not a URL like http://host:8700" ;;
    http://?* | https://?*) ;;
    *) fail 2 "--lut-url '$server' is not a URL like http://host:8700" ;;
  esac
  if [ -n "$token_file" ]; then
    [ -r "$token_file" ] || fail 2 "--token-file $token_file cannot be read"
    token=$(cat "$token_file")
  elif [ -z "$token" ] && [ -f "$prefix/token" ]; then
    token=$(cat "$prefix/token")
  fi
  case $token in
    '') fail 2 "--token, --token-file or LUTNAS_TOKEN: on the server, \`lut-server token create --role agent --device $device\` makes one" ;;
    *[!A-Za-z0-9_-]*) fail 2 "the token holds characters that no token has; copy it again" ;;
  esac
  if [ -n "$ca_file" ]; then
    [ -r "$ca_file" ] || fail 2 "--ca-file $ca_file cannot be read"
  elif [ -f "$prefix/ca.pem" ]; then
    ca_file=$prefix/ca.pem
  fi
  [ "$service" = no ] || check_service_use "$@"
}

check_service_use() {
  [ "$(id -u)" = 0 ] || fail 2 "--service installs a systemd unit, which takes root: curl ... | sudo sh -s -- ..."
  for argument; do
    case $argument in
      --calibration | --held-out | --seed | --bound-percent | --memory-mb | --new | --force)
        fail 2 "$argument does not go with --service, whose first profile is a job of the server; leave it out" ;;
    esac
  done
  systemd_version=$(systemctl show --property=Version 2>/dev/null | sed -n 's/^Version=[^0-9]*\([0-9]*\).*/\1/p')
  [ -n "$systemd_version" ] || fail 1 "--service needs systemd, which does not run here; leave it out and start \`profiler-agent work\` by your own means. Nothing was changed"
  [ "$systemd_version" -ge 247 ] || fail 1 "--service needs systemd 247 or newer, here is $systemd_version; leave it out. Nothing was changed"
  if [ -f "$unit_folder/$unit" ] && ! grep -q "^ExecStart=$bin/" "$unit_folder/$unit"; then
    fail 1 "$unit is there already, of another installation: name its folder with --prefix, or uninstall it. Nothing was changed"
  fi
}

# --- what is here -----------------------------------------------------------------------------------------------------

no_32_bit() {
  fail 1 "$1, and there is no ONNX Runtime for 32-bit systems: install a 64-bit system (Raspberry Pi OS has one for the Pi 3, 4, 5 and Zero 2 W). Nothing was changed"
}

check_machine() {
  [ "$(uname -s)" = Linux ] || fail 1 "this is $(uname -s); the agent's script is for Linux. Nothing was changed"
  machine=$(uname -m)
  case $machine in
    x86_64 | amd64 | aarch64 | arm64) ;;
    armv[0-9]* | arm | i[3-6]86) no_32_bit "this is a 32-bit system ($machine)" ;;
    *) [ "$runtime" != onnxruntime ] || fail 1 "there is no ONNX Runtime package for $machine; build one and name its wheel with --onnxruntime. Nothing was changed" ;;
  esac
  if [ "$(getconf LONG_BIT 2>/dev/null || say 64)" = 32 ]; then
    no_32_bit "the kernel is 64-bit ($machine), the system on it is 32-bit"
  fi
}

choose_python() {
  is_new='import sys; sys.exit(sys.version_info < (3, 11))'
  if [ -n "$python" ]; then
    python=$(command -v "$python") || fail 2 "--python: there is no such program"
    oldest=$("$python" -V 2>&1 || :)
    "$python" -I -c "$is_new" 2>/dev/null || fail 1 "$python is ${oldest:-no Python}, the agent needs Python 3.11 or newer. Nothing was changed"
    return
  fi
  oldest=''
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    found=$(command -v "$name" 2>/dev/null) || continue
    if "$found" -I -c "$is_new" 2>/dev/null; then
      python=$found
      return
    fi
    oldest=${oldest:-$("$found" -V 2>&1 || :)}
  done
  fail 1 "${oldest:-no Python} is here, the agent needs Python 3.11 or newer: Debian 12, Raspberry Pi OS Bookworm and Ubuntu 24.04 have it (apt-get install python3 python3-venv), Ubuntu 22.04 beside its own (apt-get install python3.11 python3.11-venv); or name one with --python. Nothing was changed"
}

# What only Python can tell: its own word size, the C library that wheels are built for, and whether it has venv.
check_python() {
  found=$("$python" -I - <<'END_OF_PYTHON'
@INCLUDE check_python.py@
END_OF_PYTHON
  ) || fail 1 "$python does not work; name another with --python"
  case $found in
    fine) ;;
    32-bit) no_32_bit "$python is a 32-bit program" ;;
    no-venv)
      fail 1 "$python cannot make virtual environments: apt-get install $(basename "$python")-venv (as root), then run this again. Nothing was changed" ;;
    *)
      [ "$runtime" = onnxruntime ] || return 0
      [ "$found" != no-glibc ] || found='no glibc'
      fail 1 "this system has $found, and ONNX Runtime's packages need glibc 2.28 or newer; use another system, or name a wheel that fits with --onnxruntime. Nothing was changed" ;;
  esac
}

check_disk() {
  folder=$prefix
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  [ -w "$folder" ] || fail 1 "$folder cannot be written to: name another folder with --prefix, or run this as root. Nothing was changed"
  [ ! -f "$prefix/installed" ] || needs_mb=100 # what is there is replaced piece by piece
  free_mb=$(($(df -Pk "$folder" | awk 'NR == 2 { print $4 }') / 1024))
  [ "$free_mb" -ge "$needs_mb" ] || fail 1 "$folder has $free_mb MB left, the agent needs $needs_mb: free some, or name another folder with --prefix. Nothing was changed"
}

# ask PATH [FILE SHA256]: one GET with the token, which stays out of every command line.
ask() {
  LUTNAS_TOKEN=$token LUTNAS_CA_FILE=$ca_file "$python" -I - "$server" "$@" <<'END_OF_PYTHON'
@INCLUDE ask.py@
END_OF_PYTHON
}

check_server() {
  health=$(ask /healthz) || exit 1
  case $health in
    *'"status":"ok"'*) ;;
    *) fail 1 "$server answers, but is no lut-server; name it with --lut-url" ;;
  esac
  may=$(ask /v1/token) || exit 1
  problem=$("$python" -I - "$device" "$may" <<'END_OF_PYTHON'
@INCLUDE check_token.py@
END_OF_PYTHON
  ) || fail 1 "$server does not say what a token may do; is it older than this script?"
  [ -z "$problem" ] || fail 1 "the token $problem; on the server, \`lut-server token create --role agent --device $device\` makes one that fits. Nothing was changed"
}

# --- the installation -------------------------------------------------------------------------------------------------

install_all() {
  umask 022
  mkdir -p "$prefix"
  # The first thing made and the last one removed: from here on the folder is ours.
  [ -f "$marker" ] || : >"$marker"
  lock
  tmp=$prefix/tmp
  trap 'rm -rf "$tmp" "$lock"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  rm -rf "$tmp"
  mkdir "$tmp"
  note spool "$spool"
  keep_token
  # The same wheel, constraints, Python and runtime: nothing to install.
  wanted="$wheel_sha256 $constraints_sha256 $("$python" -I -c 'import sys; print(sys.version.split()[0], sys.base_prefix)') $runtime"
  if [ "$(cat "$prefix/installed" 2>/dev/null)" = "$wanted" ] && works; then
    say "lutnas $version is installed in $prefix"
  else
    ask "/agent/wheels/$wheel" "$tmp/$wheel" "$wheel_sha256" || exit 1
    ask /agent/constraints.txt "$tmp/constraints.txt" "$constraints_sha256" || exit 1
    rm -f "$prefix/installed"
    make_environment
    install_packages
    works || fail 1 "ONNX Runtime does not start on this processor: $(tail -n 1 "$tmp/log"). \`--onnxruntime\` takes another build of it"
    printf '%s\n' "$wanted" >"$prefix/installed"
    say "lutnas $version is installed in $prefix ($(du -sm "$prefix/env" | cut -f 1) MB)"
  fi
}

note() { # note NAME VALUE: into the marker, whole or not at all
  grep -v "^$1=" "$marker" >"$marker.new" || :
  printf '%s=%s\n' "$1" "$2" >>"$marker.new"
  mv -f "$marker.new" "$marker"
}

lock() {
  lock=$prefix/lock
  if ! mkdir "$lock" 2>/dev/null; then
    other=$(cat "$lock/process" 2>/dev/null || :)
    if [ -n "$other" ] && kill -0 "$other" 2>/dev/null; then
      fail 1 "process $other installs into $prefix right now; wait for it, or remove $lock if that is something else"
    fi
    mkdir -p "$lock"
  fi
  printf '%s\n' $$ >"$lock/process"
}

keep_token() {
  if [ -n "$ca_file" ] && [ "$ca_file" != "$prefix/ca.pem" ]; then
    cat "$ca_file" >"$prefix/ca.pem.new"
    mv -f "$prefix/ca.pem.new" "$prefix/ca.pem"
  fi
  old=$(umask)
  umask 077
  printf '%s\n' "$token" >"$prefix/token.new"
  umask "$old"
  mv -f "$prefix/token.new" "$prefix/token"
}

# The agent, and what it needs beyond Python, start.
works() {
  { "$bin/profiler-agent" --version && "$bin/python" -c 'import httpx, numpy, onnxruntime, rich'; } >"$tmp/log" 2>&1
}

make_environment() {
  # An environment of another Python than this one is of no use; one that a killed pip left can be gone on with.
  of_this='import sys, pip; sys.exit(f"{sys.version_info[:2]} {sys.base_prefix}" != sys.argv[1])'
  this=$("$python" -I -c 'import sys; print(sys.version_info[:2], sys.base_prefix)')
  "$bin/python" -I -c "$of_this" "$this" 2>/dev/null && return
  rm -rf "$prefix/env"
  say "making a virtual environment in $prefix/env"
  "$python" -I -m venv "$prefix/env" >"$tmp/log" 2>&1 || fail 1 "$python -m venv $prefix/env failed: $(tail -n 1 "$tmp/log")"
}

pip() { # in the disk's own folder for what is unpacked: /tmp is memory on many boards
  TMPDIR=$tmp "$bin/python" -m pip --disable-pip-version-check --no-input "$@" >"$tmp/log" 2>&1
}

pip_says() { grep -i '^ *error' "$tmp/log" | tail -n 1 | cut -c 1-300; }

install_packages() {
  find_requirements >"$tmp/requirements.txt" || fail 1 "the wheel from $server does not say what the agent needs; upgrade the server"
  say "installing $(sed 's/[^A-Za-z0-9_-].*//' "$tmp/requirements.txt" | tr '\n' ' ')(some 50 MB; minutes on a small board)"
  # Wheels alone: a board that begins to compile numpy is at it for hours.
  set -- install --only-binary :all: --upgrade-strategy only-if-needed -r "$tmp/requirements.txt"
  if ! pip "$@" -c "$tmp/constraints.txt"; then
    problem=$(pip_says)
    pip "$@" || fail 1 "pip cannot install what the agent needs: ${problem:-$(tail -n 1 "$tmp/log")}"
    say "the versions that lutnas $version was tested with are not to be had here; these are installed instead: $(pip_lists)"
  fi
  # Two builds of ONNX Runtime lie in one folder: the newer one alone stays.
  [ "$runtime" = onnxruntime ] || pip uninstall --yes onnxruntime || :
  pip install --no-deps --force-reinstall "$tmp/$wheel" || fail 1 "pip cannot install $wheel: $(pip_says)"
}

pip_lists() { "$bin/python" -m pip --disable-pip-version-check list --format freeze 2>/dev/null | grep -E '^(httpx|numpy|onnxruntime[a-z-]*|rich)=' | tr '\n' ' '; }

find_requirements() {
  "$bin/python" -I - "$tmp/$wheel" "$runtime" <<'END_OF_PYTHON'
@INCLUDE requirements.py@
END_OF_PYTHON
}

# --- what comes after -------------------------------------------------------------------------------------------------

start() { # start PROFILE FLAG...
  if [ "$service" = yes ]; then
    start_service "$@"
    return
  fi
  by_hand="$bin/profiler-agent profile --lut-url $server --device $device --token-file $prefix/token"
  [ -z "$ca_file" ] || by_hand="$by_hand --ca-file $prefix/ca.pem"
  if [ "$profile" = no ]; then
    agent enrol --lut-url "$server" --device "$device" || exit $?
    say "to make its table: $by_hand $*"
    return
  fi
  say "starting the profile; stopped anywhere, this goes on: $by_hand $*"
  release
  code=0
  agent profile --lut-url "$server" --device "$device" "$@" || code=$?
  exit "$code"
}

agent() {
  LUTNAS_TOKEN_FILE=$prefix/token LUTNAS_CA_FILE=${ca_file:+$prefix/ca.pem} LUTNAS_SPOOL=$spool "$bin/profiler-agent" "$@"
}

release() {
  rm -rf "$tmp" "$lock"
  trap - EXIT HUP INT TERM
}

start_service() {
  if [ "$profile" = yes ]; then
    keep_arguments "$@" # without --preset, which is the service's
    # shellcheck disable=SC2086 # words of names and numbers, one flag or value each
    agent enrol --lut-url "$server" --device "$device" $kept || exit $?
  else
    agent enrol --lut-url "$server" --device "$device" || exit $?
  fi
  note unit "$unit_folder/$unit"
  write_unit >"$unit_folder/$unit.new"
  mv -f "$unit_folder/$unit.new" "$unit_folder/$unit"
  { systemctl daemon-reload && systemctl --quiet enable "$unit" && systemctl restart "$unit"; } ||
    fail 1 "systemd does not start $unit; \`systemctl status $unit\` and \`journalctl -u $unit\` say why"
  sleep 2
  systemctl --quiet is-active "$unit" || fail 1 "$unit ended at once; \`journalctl -u $unit\` says why"
  say "$unit works for $server as $device: \`journalctl -fu $unit\` shows it, and $server/devices/$device its table"
}

keep_arguments() {
  kept='' skip=no
  for argument; do
    case $argument in
      --preset) skip=yes ;;
      --*) skip=no ;;
    esac
    [ "$skip" = yes ] || kept="$kept $argument"
  done
}

# Read: the device's own sensors, firmware included where there is one. Write: its state, and nothing else.
write_unit() {
  home=yes
  case $prefix in /home/* | /root/*) home=read-only ;; esac
  cat <<UNIT
# Made by install.sh of $server; running that again writes it anew. Your own settings: systemctl edit $unit
[Unit]
Description=lutnas profiler agent: measures as $device for $server
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=$bin/profiler-agent work --lut-url $server --device $device --token-file \${CREDENTIALS_DIRECTORY}/token --preset ${preset:-standard}
LoadCredential=token:$prefix/token
Environment=LUTNAS_CA_FILE=${ca_file:+$prefix/ca.pem} LUTNAS_SPOOL=$service_spool HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
StateDirectory=lutnas-agent
StateDirectoryMode=0700
WorkingDirectory=$service_spool
UMask=0077
Restart=always
RestartSec=30
RestartPreventExitStatus=2
SuccessExitStatus=130

DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=$home
PrivateTmp=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
UNIT
  unit_devices
  printf '\n[Install]\nWantedBy=multi-user.target\n'
}

# vcgencmd asks a Raspberry Pi's firmware through a device of its own; a GPU's runtime needs more than can be listed here.
unit_devices() {
  groups=''
  for group in video render; do
    ! getent group "$group" >/dev/null 2>&1 || groups="$groups $group"
  done
  if [ "$runtime" != onnxruntime ]; then
    printf 'SupplementaryGroups=%s\n' "${groups# }"
    return
  fi
  printf '%s\n' MemoryDenyWriteExecute=yes
  allowed=''
  for file in /dev/vcio /dev/vchiq; do
    [ ! -c "$file" ] || allowed="$allowed $file"
  done
  if [ -z "$allowed" ]; then
    printf '%s\n' PrivateDevices=yes
    return
  fi
  printf '%s\n' DevicePolicy=closed "SupplementaryGroups=${groups# }"
  # shellcheck disable=SC2086 # paths without spaces
  printf 'DeviceAllow=%s rw\n' $allowed
}

# --- the way back -----------------------------------------------------------------------------------------------------

uninstall_all() {
  if [ ! -f "$marker" ]; then
    [ "$purge" = yes ] || fail 1 "there is no agent in $prefix; --prefix names where it was installed"
    forget_measurements "$(default_spool)"
    [ "$(id -u)" != 0 ] || forget_measurements "$service_spool"
    return
  fi
  lock
  trap 'rm -rf "$lock"' EXIT
  unit_file=$(installed unit)
  spool=$(installed spool)
  if [ -n "$unit_file" ]; then
    [ "$(id -u)" = 0 ] || fail 2 "removing $unit_file takes root: curl ... | sudo sh -s -- --uninstall"
    systemctl --quiet disable --now "$unit" 2>/dev/null || :
    rm -f "$unit_file" "$unit_file.new"
    systemctl daemon-reload 2>/dev/null || :
    systemctl reset-failed "$unit" 2>/dev/null || : # stopped while it was starting
  fi
  rm -rf "$prefix/env" "$prefix/tmp"
  rm -f "$prefix/token" "$prefix/token.new" "$prefix/ca.pem" "$prefix/ca.pem.new" "$prefix/installed"
  forget_measurements "$spool"
  rm -rf "$marker.new" "$lock" "$marker"
  if rmdir "$prefix" 2>/dev/null; then
    say "removed $prefix"
  else
    say "removed the agent from $prefix; what else is in that folder is not its own"
  fi
}

forget_measurements() { # forget_measurements SPOOL
  if [ -z "$1" ] || [ ! -d "$1" ]; then
    return 0
  elif [ "$purge" = no ]; then
    say "kept $1: what was measured here, some of it perhaps not handed in. Installed again, the agent goes on from there; \`--uninstall --purge\` removes it as well"
    return 0
  fi
  where=$1
  [ ! -L "$1" ] || where=$(readlink -f "$1") # the state of a dynamic user
  for part in graphs known runs results measuring.lock; do rm -rf "${where:?}/$part"; done
  [ "$1" != "$service_spool" ] || rm -rf "${where:?}" # which nobody else has a use for
  rmdir "$where" 2>/dev/null || [ ! -d "$where" ] || say "kept what is in $where besides measurements"
  [ ! -L "$1" ] || rm -f "$1"
  say "removed the measurements in $1"
}

main "$@" </dev/null
