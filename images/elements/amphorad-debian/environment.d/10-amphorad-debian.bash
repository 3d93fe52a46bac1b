export DISTRO_NAME=debian
export DIB_RELEASE=${DIB_RELEASE:-bookworm}
export DIB_INIT_SYSTEM=systemd
export DIB_AMPHORAD_KERNEL=${DIB_AMPHORAD_KERNEL:-generic}
export DIB_DISTRIBUTION_MIRROR=${DIB_DISTRIBUTION_MIRROR:-http://deb.debian.org/debian}
export DIB_DEBIAN_SECURITY_MIRROR=${DIB_DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security}
# The debootstrap element would write DHCP stanzas for eth0 and eth1, and eth1 is where the VIP goes.
export DIB_APT_MINIMAL_CREATE_INTERFACES=0
# Its package list asks for locales; C.UTF-8 is built in.
export DIB_DEBOOTSTRAP_DEFAULT_LOCALE=C.UTF-8

case $DIB_AMPHORAD_KERNEL in
    generic | cloud) ;;
    *) echo "DIB_AMPHORAD_KERNEL is '$DIB_AMPHORAD_KERNEL', not generic or cloud" >&2; exit 1 ;;
esac
