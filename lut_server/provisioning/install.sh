#!/bin/sh
# Installs the lutnas profiler agent on this device, from the lut-server that this script came from:
#
#   curl -fsS http://LUT-SERVER/agent/install.sh | sh -s -- --device NAME --token TOKEN
#
# Everything is checked before anything is changed. After an interruption the same command goes on;
# run again, it upgrades. The last line calls main: half a download runs nothing.
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
changed=no

usage() {
  cat <<'TEXT'
usage: install.sh --device NAME (--token TOKEN | --token-file FILE) [OPTION...] [PROFILE FLAG...]

  --device NAME         name of this device
  --token TOKEN         of role agent; other users of this device can see it while the script runs
  --token-file FILE     the token in a file, or in the variable LUTNAS_TOKEN; an upgrade needs none
  --lut-url URL         the lut-server, if it did not send this script; --server: the same
  --ca-file FILE        certificates to trust, if the server made its own
  --service             start the agent with the system (as root; systemd), to do the server's jobs
  --no-profile          measure nothing now
  --prefix DIR          where to install: /opt/lutnas-agent for root, else ~/.local/share/lutnas/agent
  --python PYTHON       Python 3.11 or newer, with venv
  --onnxruntime WHAT    package or wheel to install instead of onnxruntime
  --unpinned            where the tested versions of the packages are not to be had, take others
  --uninstall           remove the installation; --purge: the measurements on this device as well

Other flags are those of `profiler-agent profile`: --space (default: nas-bench-201), --preset, ...
Exit codes: 0 done, 1 failed, 2 wrong use; else those of the profile.
TEXT
}

say() { printf '%s\n' "$*"; }

fail() { # fail CODE MESSAGE: one line, then the end
  if [ "$1" = 1 ] && [ "$changed" = no ]; then set -- 1 "$2. Nothing was changed"; fi
  printf 'install.sh: %s\n' "$2" >&2
  exit "$1"
}

# --- flags --------------------------------------------------------------------------------------

# Values of flags go into variables; flags of the profile stay in "$@".
main() {
  device='' token=${LUTNAS_TOKEN:-} token_file='' server=$served_from prefix='' python='' ca_file='' runtime=onnxruntime
  service=no profile=yes uninstall=no purge=no unpinned=no preset='' spaces=no
  unset LUTNAS_TOKEN PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX
  export ORT_DISABLE_TELEMETRY=1 # as the agent does
  left=$# takes=''
  while [ "$left" -gt 0 ]; do
    argument=$1
    shift
    left=$((left - 1))
    case $argument in
      --*=*) # becomes two words
        set -- "${argument#*=}" "$@"
        argument=${argument%%=*}
        left=$((left + 1))
        ;;
    esac
    case $argument in -*) takes='' ;; esac
    case $argument in
      --device | --token | --token-file | --ca-file | --lut-url | --server | --prefix | --python | --onnxruntime)
        if [ "$left" = 0 ] || [ -z "$1" ]; then fail 2 "$argument needs a value; --help lists all"; fi
        case $argument in
          --device) device=$1 ;;
          --token) token=$1 ;;
          --token-file) token_file=$1 ;;
          --ca-file) ca_file=$1 ;;
          --lut-url | --server) server=${1%/} ;;
          --prefix) prefix=$1 ;;
          --python) python=$1 ;;
          --onnxruntime) runtime=$1 ;;
        esac
        shift
        left=$((left - 1))
        ;;
      --service) service=yes ;;
      --no-profile) profile=no ;;
      --uninstall) uninstall=yes ;;
      --purge) purge=yes ;;
      --unpinned) unpinned=yes ;;
      -h | --help)
        usage
        exit 0
        ;;
      --new | --force) set -- "$@" "$argument" ;;
      --space | --resolution | --channels | --depth | --cells-per-stage | --classes | --image-channels | --threads | \
        --batch | --precision | --provider | --optimisation | --calibration | --held-out | --seed | --bound-percent | \
        --preset | --memory-mb | --seconds-per-task)
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
    [ $# -eq 0 ] || fail 2 "--uninstall takes only --prefix and --purge"
    uninstall_all
    exit 0
  fi
  [ "$purge" = no ] || fail 2 "--purge goes with --uninstall only"
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
    /*) ;;
    *) prefix=$(pwd)/$prefix ;;
  esac
  case $prefix in
    *[!A-Za-z0-9/._+@-]*) fail 2 "--prefix '$prefix' has characters that no environment can have in its path" ;;
  esac
  prefix=${prefix%/}
  marker=$prefix/.lutnas-agent
  bin=$prefix/env/bin
}

# A note of an earlier installation: the last NAME=VALUE line.
installed() { [ ! -f "$marker" ] || sed -n "s/^$1=//p" "$marker" | tail -n 1; }

# The default of `profiler-agent`.
default_spool() { say "${LUTNAS_SPOOL:-${XDG_STATE_HOME:-${HOME:-/root}/.local/state}/lutnas}"; }

read_installed() {
  if [ ! -f "$marker" ] && [ -d "$prefix" ] && [ -n "$(ls -A "$prefix")" ]; then
    fail 2 "$prefix holds other things; name a folder of its own with --prefix"
  fi
  [ -z "$(installed unit)" ] || service=yes # a service stays a service
  spool=$(default_spool)
  [ "$service" = no ] || spool=$service_spool
}

check_use() { # check_use PROFILE FLAG...
  [ -n "$device" ] || fail 2 "--device NAME is missing: the name of this device; --help lists all flags"
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
  make_token="make a token: lut-server token create --role agent --device $device"
  case $token in
    '') fail 2 "--token, --token-file or LUTNAS_TOKEN is missing; on the server, $make_token" ;;
    *[!A-Za-z0-9_-]*) fail 2 "the token has characters that no token has; copy it again" ;;
  esac
  if [ -n "$ca_file" ]; then
    [ -r "$ca_file" ] || fail 2 "--ca-file $ca_file cannot be read"
  elif [ -f "$prefix/ca.pem" ]; then
    ca_file=$prefix/ca.pem
  fi
  [ "$service" = no ] || check_service_use "$@"
}

check_service_use() {
  [ "$(id -u)" = 0 ] || fail 2 "--service installs a systemd unit and needs root: curl ... | sudo sh -s -- ..."
  for argument; do
    case $argument in
      --calibration | --held-out | --seed | --bound-percent | --memory-mb | --seconds-per-task | --new | --force)
        fail 2 "$argument does not go with --service: a job of the server cannot carry it; leave it out" ;;
    esac
  done
  systemd_version=$(systemctl show --property=Version 2>/dev/null | sed -n 's/^Version=[^0-9]*\([0-9]*\).*/\1/p')
  [ -n "$systemd_version" ] ||
    fail 1 "--service needs systemd, which does not run here; leave it out and start \`profiler-agent work\`"
  [ "$systemd_version" -ge 247 ] || fail 1 "--service needs systemd 247 or newer, here is $systemd_version; leave it out"
  if [ -f "$unit_folder/$unit" ] && ! grep -q "^ExecStart=$bin/" "$unit_folder/$unit"; then
    fail 1 "$unit is there already, of another installation: name its folder with --prefix, or uninstall it"
  fi
}

# --- checks -------------------------------------------------------------------------------------

no_32_bit() {
  fail 1 "$1, and ONNX Runtime needs 64 bits: install a 64-bit system (on a Raspberry Pi 3, 4, 5 or Zero 2 W)"
}

check_machine() {
  [ "$(uname -s)" = Linux ] || fail 1 "this is $(uname -s); the script is for Linux"
  machine=$(uname -m)
  case $machine in
    x86_64 | amd64 | aarch64 | arm64) ;;
    armv[0-9]* | arm | i[3-6]86) no_32_bit "this is a 32-bit system ($machine)" ;;
    *)
      [ "$runtime" != onnxruntime ] ||
        fail 1 "there is no ONNX Runtime package for $machine; build a wheel and name it with --onnxruntime" ;;
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
    "$python" -I -c "$is_new" 2>/dev/null || fail 1 "$python is ${oldest:-no Python}, the agent needs Python 3.11 or newer"
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
  oldest="${oldest:-no Python} is here, the agent needs Python 3.11 or newer (--python names it)"
  fail 1 "$oldest: apt-get install python3 python3-venv; on Ubuntu 22.04: apt-get install python3.11 python3.11-venv"
}

check_python() {
  found=$("$python" -I - <<'END_OF_PYTHON'
@INCLUDE check_python.py@
END_OF_PYTHON
  ) || fail 1 "$python does not work; name another with --python"
  case $found in
    fine) ;;
    32-bit) no_32_bit "$python is a 32-bit program" ;;
    no-venv) fail 1 "$python has no venv: apt-get install $(basename "$python")-venv (as root), then run this again" ;;
    *)
      [ "$runtime" = onnxruntime ] || return 0
      [ "$found" != no-glibc ] || found='no glibc'
      fail 1 "this system has $found, ONNX Runtime needs glibc 2.28 or newer; name a wheel that fits with --onnxruntime" ;;
  esac
}

check_disk() {
  folder=$prefix
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  [ -w "$folder" ] || fail 1 "$folder cannot be written: name another folder with --prefix, or run this as root"
  [ ! -f "$prefix/installed" ] || needs_mb=100 # an upgrade replaces files one after the other
  free_mb=$(($(df -Pk "$folder" | awk 'NR == 2 { print $4 }') / 1024))
  [ "$free_mb" -ge "$needs_mb" ] ||
    fail 1 "$folder has $free_mb MB left, the agent needs $needs_mb: free some, or name another folder with --prefix"
}

# ask PATH [FILE SHA256]: a GET with the token, which stays out of every command line.
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
  token_is=$(ask /v1/token) || exit 1
  role=$(token_field role) owner=$(token_field device)
  case $role in
    agent | admin) ;;
    *) fail 1 "the token has the role ${role:-unknown}; on the server, $make_token" ;;
  esac
  [ "${owner:-$device}" = "$device" ] || fail 1 "the token is bound to the device $owner; on the server, $make_token"
}

token_field() { printf '%s' "$token_is" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; } # none of null

# --- installation -------------------------------------------------------------------------------

install_all() {
  umask 022
  mkdir -p "$prefix"
  # Made first and removed last: the folder is the agent's as long as it has its marker.
  [ -f "$marker" ] || : >"$marker"
  changed=yes
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
  # With the same wheel, constraints, Python and runtime there is nothing to install.
  this=$("$python" -I -c 'import sys; print(sys.version.split()[0], sys.base_prefix)')
  wanted="$wheel_sha256 $constraints_sha256 $this $runtime"
  if [ "$(cat "$prefix/installed" 2>/dev/null)" = "$wanted" ] && works; then
    say "lutnas $version is installed in $prefix"
  else
    ask "/agent/wheels/$wheel" "$tmp/$wheel" "$wheel_sha256" || exit 1
    ask /agent/constraints.txt "$tmp/constraints.txt" "$constraints_sha256" || exit 1
    rm -f "$prefix/installed"
    make_environment
    install_packages
    works || fail 1 "ONNX Runtime does not start here: $(tail -n 1 "$tmp/log"); name another build with --onnxruntime"
    printf '%s\n' "$wanted" >"$prefix/installed"
    say "lutnas $version is installed in $prefix ($(du -sm "$prefix/env" | cut -f 1) MB)"
  fi
}

replace() { # replace FILE: by standard input, whole or not at all
  cat >"$1.new"
  mv -f "$1.new" "$1"
}

note() { # note NAME VALUE: in the marker
  { grep -v "^$1=" "$marker" || :; printf '%s=%s\n' "$1" "$2"; } | replace "$marker"
}

lock() {
  lock=$prefix/lock
  if ! mkdir "$lock" 2>/dev/null; then
    other=$(cat "$lock/process" 2>/dev/null || :)
    if [ -n "$other" ] && kill -0 "$other" 2>/dev/null; then
      fail 1 "process $other installs into $prefix now; wait for it, or remove $lock if it does something else"
    fi
    mkdir -p "$lock"
  fi
  printf '%s\n' $$ >"$lock/process"
}

keep_token() {
  case $ca_file in
    '' | "$prefix/ca.pem") ;;
    *) replace "$prefix/ca.pem" <"$ca_file" ;;
  esac
  (umask 077 && printf '%s\n' "$token" | replace "$prefix/token")
}

# Whether the agent and its packages start.
works() {
  { "$bin/profiler-agent" --version && "$bin/python" -c 'import httpx, numpy, onnxruntime, rich'; } >"$tmp/log" 2>&1
}

make_environment() {
  # A whole environment of the same Python is kept, also after a killed pip. A killed venv leaves half of pip.
  which='import sys; print(sys.version_info[:2], sys.base_prefix)' whole=$prefix/env/whole
  [ ! -e "$whole" ] || [ "$("$bin/python" -I -c "$which" 2>/dev/null)" != "$("$python" -I -c "$which")" ] || return 0
  rm -rf "$prefix/env"
  say "making a virtual environment in $prefix/env"
  "$python" -I -m venv "$prefix/env" >"$tmp/log" 2>&1 || fail 1 "$python -m venv $prefix/env failed: $(tail -n 1 "$tmp/log")"
  : >"$whole"
}

pip() { # unpacks on the disk: /tmp is memory on many boards
  TMPDIR=$tmp "$bin/python" -m pip --disable-pip-version-check --no-input "$@" >"$tmp/log" 2>&1
}

pip_says() { grep -i '^ *error' "$tmp/log" | tail -n 1 | cut -c 1-300; }

install_packages() {
  find_requirements >"$tmp/requirements.txt" || fail 1 "the wheel of $server does not name the agent's packages; upgrade the server"
  say "installing $(sed 's/[^A-Za-z0-9_-].*//' "$tmp/requirements.txt" | tr '\n' ' ')(some 50 MB; minutes on a small board)"
  # Two builds of ONNX Runtime would share a folder: removed later, it would take the other's files along.
  [ "$runtime" = onnxruntime ] || pip uninstall --yes onnxruntime || :
  # Wheels only: a board compiles numpy for hours.
  set -- install --only-binary :all: --upgrade-strategy only-if-needed -r "$tmp/requirements.txt"
  if ! pip "$@" -c "$tmp/constraints.txt"; then
    problem=$(pip_says)
    problem="pip cannot install the tested versions: ${problem:-$(tail -n 1 "$tmp/log")}"
    [ "$unpinned" = yes ] || fail 1 "$problem; --unpinned takes others"
    pip "$@" || fail 1 "$problem"
    say "the tested versions are not available here; installed instead: $(pip_lists)"
  fi
  pip install --no-deps --force-reinstall "$tmp/$wheel" || fail 1 "pip cannot install $wheel: $(pip_says)"
}

pip_lists() {
  "$bin/python" -m pip --disable-pip-version-check list --format freeze 2>/dev/null |
    grep -E '^(httpx|numpy|onnxruntime[a-z-]*|rich)=' | tr '\n' ' '
}

find_requirements() {
  "$bin/python" -I - "$tmp/$wheel" "$runtime" <<'END_OF_PYTHON'
@INCLUDE requirements.py@
END_OF_PYTHON
}

# --- the first profile, or the service ----------------------------------------------------------

start() { # start PROFILE FLAG...
  if [ "$service" = yes ]; then
    start_service "$@"
    return
  fi
  by_hand="$bin/profiler-agent profile --lut-url $server --device $device --token-file $prefix/token"
  [ -z "$ca_file" ] || by_hand="$by_hand --ca-file $prefix/ca.pem"
  if [ "$profile" = no ]; then
    agent enrol --lut-url "$server" --device "$device" || exit $?
    say "to measure: $by_hand $*"
    return
  fi
  say "starting the profile; after an interruption go on with: $by_hand $*"
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
  [ "$profile" = yes ] || set --
  keep_arguments "$@"
  # shellcheck disable=SC2086 # flags and values without spaces
  agent enrol --lut-url "$server" --device "$device" $kept || exit $?
  note unit "$unit_folder/$unit"
  write_unit | replace "$unit_folder/$unit"
  { systemctl daemon-reload && systemctl --quiet enable "$unit" && systemctl restart "$unit"; } ||
    fail 1 "systemd does not start $unit; \`systemctl status $unit\` and \`journalctl -u $unit\` say why"
  sleep 2
  systemctl --quiet is-active "$unit" || fail 1 "$unit ended at once; \`journalctl -u $unit\` says why"
  say "$unit works for $server as $device; its log: journalctl -fu $unit; its table: $server/devices/$device"
}

keep_arguments() { # all but --preset, which is a flag of the service
  kept='' skip=no
  for argument; do
    case $argument in
      --preset) skip=yes ;;
      --*) skip=no ;;
    esac
    [ "$skip" = yes ] || kept="$kept $argument"
  done
}

# The service reads the device's sensors and firmware, and writes its state only.
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

# A Raspberry Pi's firmware answers through a device file; a GPU's runtime needs devices unknown here.
unit_devices() {
  groups=SupplementaryGroups= allowed=''
  for group in video render; do
    ! getent group "$group" >/dev/null 2>&1 || groups="$groups$group "
  done
  for file in /dev/vcio /dev/vchiq; do
    [ ! -c "$file" ] || allowed="$allowed $file"
  done
  if [ "$runtime" != onnxruntime ]; then
    say "${groups% }"
  elif [ -z "$allowed" ]; then
    printf '%s\n' MemoryDenyWriteExecute=yes PrivateDevices=yes
  else
    printf '%s\n' MemoryDenyWriteExecute=yes DevicePolicy=closed "${groups% }"
    # shellcheck disable=SC2086 # paths without spaces
    printf 'DeviceAllow=%s rw\n' $allowed
  fi
}

# --- uninstalling -------------------------------------------------------------------------------

uninstall_all() {
  if [ ! -f "$marker" ]; then
    [ "$purge" = yes ] || fail 1 "there is no agent in $prefix; --prefix names where it was installed"
    forget_measurements "$(default_spool)"
    [ "$(id -u)" != 0 ] || forget_measurements "$service_spool"
    return
  fi
  lock
  trap 'rm -rf "$lock"' EXIT
  unit_file=$unit_folder/$unit # not what the marker says: anybody may have written that
  spool=$(installed spool)
  if [ -n "$(installed unit)" ] && grep -q "^ExecStart=$bin/" "$unit_file" 2>/dev/null; then
    [ "$(id -u)" = 0 ] || fail 2 "removing $unit_file needs root: curl ... | sudo sh -s -- --uninstall"
    systemctl --quiet disable --now "$unit" 2>/dev/null || :
    rm -f "$unit_file" "$unit_file.new"
    systemctl daemon-reload 2>/dev/null || :
    systemctl reset-failed "$unit" 2>/dev/null || : # if it was stopped while it started
  fi
  for file in env tmp token token.new ca.pem ca.pem.new installed; do rm -rf "${prefix:?}/$file"; done
  forget_measurements "$spool"
  rm -rf "$marker.new" "$lock" "$marker"
  if rmdir "$prefix" 2>/dev/null; then
    say "removed $prefix"
  else
    say "removed the agent from $prefix; the other files there are not its own"
  fi
}

forget_measurements() { # forget_measurements SPOOL
  if [ -z "$1" ] || [ ! -d "$1" ]; then
    return 0
  elif [ "$purge" = no ]; then
    say "kept the measurements in $1, perhaps not uploaded yet; \`--uninstall --purge\` removes them"
    return 0
  elif [ "$1" != "$service_spool" ] && [ ! -f "$1/schema" ]; then
    say "kept $1: no agent measured there"
    return 0
  fi
  where=$1
  [ ! -L "$1" ] || where=$(readlink -f "$1") # the state of a dynamic user is a link
  for part in schema graphs known runs results measuring.lock; do rm -rf "${where:?}/$part"; done
  [ "$1" != "$service_spool" ] || rm -rf "${where:?}" # the service's own
  rmdir "$where" 2>/dev/null || [ ! -d "$where" ] || say "kept what is in $where besides measurements"
  [ ! -L "$1" ] || rm -f "$1"
  say "removed the measurements in $1"
}

main "$@" </dev/null
