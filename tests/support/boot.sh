#!/bin/bash
# Boots the machine of booted.py: boot.sh BASE NAME REPOSITORY, in network, mount, IPC and UTS
# namespaces of its own. BASE/shared and REPOSITORY are on the machine too, under the same paths.
set -euo pipefail
base=$1 name=$2 repository=$3

outer() {
  mount -t cgroup2 cgroup2 "$base/cgroup"
  mkdir "$base/cgroup/$name"
  echo $$ >"$base/cgroup/$name/cgroup.procs"
  setpriv --pdeathsig KILL unshare --mount --cgroup --pid --fork --kill-child \
    "$0" "$base" "$name" "$repository" first || true
  echo $$ >"$base/cgroup/cgroup.procs"
  find "$base/cgroup/$name" -depth -type d -exec rmdir {} +
}

# As the first process, make the root file system and hand over to systemd.
first() {
  local root=$base/root
  mount -t tmpfs tmpfs "$base/tmpfs"
  mkdir "$base/tmpfs/upper" "$base/tmpfs/work"
  mount -t overlay -o "lowerdir=/,upperdir=$base/tmpfs/upper,workdir=$base/tmpfs/work" root "$root"
  mount_kernel "$root"
  mount_devices "$root/dev"
  for path in "$repository" "$base/shared"; do
    mkdir -p "$root$path"
    mount --bind "$path" "$root$path"
  done
  write_units "$root"
  cd "$root"
  mkdir .outside
  pivot_root . .outside
  umount -l /.outside
  ip link set lo up
  exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target --show-status=no --log-target=console
}

# Of what the kernel lets be set, only what is of this network namespace can be. A user namespace may
# mount proc only where a whole one is to be seen.
mount_kernel() {
  mount -t proc proc "$1/proc"
  mount --bind "$1/proc/sys" "$1/proc/sys"
  mount --bind "$1/proc/sys/net" "$1/proc/sys/net"
  mount -o remount,bind,ro "$1/proc/sys"
  mount -t sysfs -o ro sysfs "$1/sys"
  mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
  mount -t tmpfs tmpfs "$1/run"
  mkdir "$1/run/proc"
  mount -t proc proc "$1/run/proc"
}

mount_devices() {
  mount -t tmpfs tmpfs "$1"
  for device in null zero full random urandom tty; do cp -a "/dev/$device" "$1"; done
  mkdir "$1/pts" "$1/shm"
  mount -t devpts -o newinstance,ptmxmode=666 devpts "$1/pts"
  ln -s pts/ptmx "$1/ptmx"
  ln -s /proc/self/fd "$1/fd"
}

# The journal, and the watcher as `make install` would leave it.
write_units() {
  rm -rf "$1"/etc/{systemd,fstab,watcher} "$1/var/lib/watcher" "$1/usr/local/lib/systemd" \
    "$1/usr/lib/systemd/system-generators" "$1"/usr/lib/systemd/system/*.wants
  mkdir -p "$1/etc/systemd/system/sysinit.target.wants" "$1/etc/watcher" \
    "$1/usr/local/lib/systemd/system" "$1/usr/local/sbin"
  ln -s /usr/lib/systemd/system/systemd-journald.service "$1/etc/systemd/system/sysinit.target.wants"
  ln -s /dev/null "$1/etc/systemd/system/tmp.mount"
  ln -s "$base/shared/watcher.toml" "$1/etc/watcher/watcher.toml"
  ln -sf "$repository/.venv/bin/watcher" "$1/usr/local/sbin/watcher"
  cp "$repository"/deploy/{watcher.service,watcher-names.service,watcher-cluster.service,watcher-metrics.service,run-runc.mount} \
    "$1/usr/local/lib/systemd/system"
  # But for those that ask for names, or for a cluster.
  ln -s /dev/null "$1/etc/systemd/system/watcher-names.service"
  ln -s /dev/null "$1/etc/systemd/system/watcher-cluster.service"
  mkdir -p "$1/etc/systemd/system/local-fs.target.wants"
  if [[ -n ${ENABLED:-} ]]; then
    ln -s "/usr/local/lib/systemd/system/$ENABLED" "$1/etc/systemd/system/local-fs.target.wants"
  fi
}

"${4:-outer}"
