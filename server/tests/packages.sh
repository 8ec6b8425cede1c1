# To be sourced: installs Debian packages whose programs are missing.
#
#   want nginx nginx
#   want redis-server redis-server
#   install_wanted

missing=()

want() {
  command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || missing+=("$2")
}

install_wanted() {
  [ ${#missing[@]} -gt 0 ] || return 0
  printf '== installing %s\n' "${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    echo "${missing[*]} missing, and no apt-get to install them with" >&2
    exit 1
  fi
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "${missing[*]} missing: install them, or run this as root" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  # the packages' own services must not start: the tests run the programs themselves
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}
