# Process 1 of namespaces of its own (bench/systemd_machine.py): a copy-on-write view of this machine with the package installed,
# in which systemd takes over.
#   systemd_boot.sh SCRATCH PACKAGE
set -eu
scratch=$1
package=$2
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root"
cd "$scratch/root"
# The kernel's parameters are the real ones: read only, for whatever starts here.
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
# Nothing that this machine starts is started here: of early boot the journal alone.
rm -rf etc/systemd/system
mkdir -p etc/systemd/system
printf '[Unit]\nRequires=sysinit.target\n' > etc/systemd/system/demo.target
for unit in lib/systemd/system/sysinit.target.wants/*; do
    case $unit in *journald*) ;; *) ln -sf /dev/null "etc/systemd/system/${unit##*/}" ;; esac
done
cp "$package" run/tandem.deb
chroot . dpkg --force-depends --force-confnew --install /run/tandem.deb
mkdir run/before
pivot_root . run/before
# Or else systemd could not show credentials to a service that has a user.
mount --make-rshared /
umount -l /run/before
exec env -i container=demo PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=demo.target --log-target=journal
