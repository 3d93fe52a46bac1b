"""What the plugging calls of the API do, and what is done again when the machine has booted.

A call that was interrupted at any point gives the right state when it is repeated, because each one leads up to the same end: the
file is written and the interface recorded before it is moved, moved before it is brought up, and what is there already is not
touched. Source: Octavia contract sections 1.5 (routes 5, 6, 16, 17) and 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from pyroute2 import NetlinkError

from amphorad.agent.settings import Topology
from amphorad.files import make_directory, write_atomically
from amphorad.network import announcement, firewall, interface_file
from amphorad.network.bodies import VipPlug  # noqa: TC001 - a field of a struct that is decoded
from amphorad.network.errors import AlreadyPlugged, InvalidAddress, NoInterface, PlugFailed, UnknownInterface
from amphorad.network.links import Link, bring_up, find_link, links, links_with_default_route
from amphorad.network.namespace import ensure_namespace, namespace_path, run_program, tune
from amphorad.network.netlink import Netlink

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyroute2 import AsyncIPRoute

    from amphorad.agent.settings import AgentSettings
    from amphorad.network.bodies import NetworkPlug, Rule
    from amphorad.network.interface_file import InterfaceFile

__all__ = ["Plugging"]

log = logging.getLogger(__name__)

VIP_INTERFACE = "eth1"
RESCAN = Path("/sys/bus/pci/rescan")
RECORDS = "plugged_interfaces"
VIP_RECORD = "plugged_vip.json"
FIREWALL_FILE = "nftables-vip.rules"
PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


class _VipRecord(msgspec.Struct, frozen=True):
    """The last plug/vip call, because a later network plug leaves the additional VIPs out."""

    vip: str
    body: VipPlug


class Plugging:
    """Interfaces of the namespace; one call at a time (the API sees to that).

    `restore` first, `close` in the end.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._path = namespace_path(settings.namespace)
        self._here = Netlink()
        self._there = Netlink(self._path)

    async def close(self) -> None:
        await self._here.close()
        await self._there.close()

    async def restore(self) -> None:
        """Makes the namespace, and the state that the files describe, also after a reboot. What fails is logged.

        Raises:
            PlugFailed: the namespace itself cannot be made.
        """
        await asyncio.to_thread(make_directory, self._settings.base_path)
        await ensure_namespace(self._settings.namespace)
        await tune(self._there)
        await self._write(interface_file.LOOPBACK)
        for mac, name in (await asyncio.to_thread(self._records)).items():
            try:
                await self._move(mac, name)
            except (NoInterface, PlugFailed) as error:
                log.info("interface not there name=%s mac=%s reason=%s", name, mac, error)
        files = await asyncio.to_thread(self._files)
        await self._load_firewall(files)
        for file in files:
            try:
                await self._bring_up(file, files)
            except LookupError:
                log.info("interface of a file is not there name=%s", file.name)
            except (NetlinkError, OSError, RuntimeError) as error:
                log.error("interface not restored name=%s reason=%s", file.name, error)

    # --- route 16 ---

    async def plug_vip(self, vip: str, body: VipPlug) -> str:
        """Plugs the interface of the VIP; gives the text of the answer.

        Raises:
            InvalidAddress, AlreadyPlugged, NoInterface, PlugFailed.
        """
        file = self._vip_file(VIP_INTERFACE, vip, body)
        await ensure_namespace(self._settings.namespace)
        link = await self._there.run(lambda netlink: find_link(netlink, mac=body.mac_address))
        is_repeated = link is not None
        if not is_repeated:
            await self._find_here(body.mac_address, "Error plugging VIP")
        elif link is not None and link.name != VIP_INTERFACE:
            raise AlreadyPlugged("Interface already exists")
        record = msgspec.json.encode(_VipRecord(str(ipaddress.ip_address(vip)), body))
        if not (is_repeated and self._is_recorded(body.mac_address, VIP_INTERFACE)):
            await self._write(file)
            await asyncio.to_thread(write_atomically, self._settings.base_path / VIP_RECORD, record, 0o644)
            await asyncio.to_thread(self._record, body.mac_address, VIP_INTERFACE)
        await self._finish(body.mac_address, VIP_INTERFACE, "Error plugging VIP")
        if is_repeated:
            raise AlreadyPlugged("Interface already exists")
        addresses = ", ".join(interface_file.vip_addresses(vip, body))
        return f"VIPs plugged on interface {VIP_INTERFACE}: {addresses}"

    # --- route 17 ---

    async def plug_network(self, body: NetworkPlug) -> str:
        """Plugs or changes the interface of a member network; gives the text of the answer.

        Raises:
            InvalidAddress, NoInterface, PlugFailed.
        """
        await ensure_namespace(self._settings.namespace)
        link = await self._there.run(lambda netlink: find_link(netlink, mac=body.mac_address))
        name = link.name if link is not None else await self._free_name(body.mac_address)
        if body.vip_net_info is not None:
            vip, vip_body = self._with_known_vips(body.vip_net_info.vip, body.vip_net_info)
            file = self._vip_file(name, vip, vip_body, fixed_ips=body.fixed_ips or ())
        else:
            file = interface_file.backend_file(name, body)
        if link is None:
            await self._find_here(body.mac_address, "Error plugging network")
        await self._write(file)
        await asyncio.to_thread(self._record, body.mac_address, name)
        await self._finish(body.mac_address, name, "Error plugging network")
        await self.announce([fixed.ip_address for fixed in body.fixed_ips or ()])
        return f"Updated existing interface {name}" if link is not None else f"Plugged on interface {name}"

    def _vip_file(self, name: str, vip: str, body: VipPlug, *, fixed_ips: Sequence = ()) -> InterfaceFile:  # type: ignore[type-arg]
        standby = self._settings.topology is Topology.ACTIVE_STANDBY
        return interface_file.vip_file(name, vip, body, standby=standby, fixed_ips=fixed_ips)

    def _with_known_vips(self, vip: str, body: VipPlug) -> tuple[str, VipPlug]:
        """The controller leaves the additional VIPs out of a network plug; they are those of the last plug/vip."""
        known = self._known_vip()
        if known is None or body.additional_vips or ipaddress.ip_address(vip) != ipaddress.ip_address(known.vip):
            return vip, body
        return vip, msgspec.structs.replace(body, additional_vips=known.body.additional_vips)

    # --- route 5 and 6, details ---

    async def interface_of(self, ip: str) -> str:
        """The interface that has an address.

        Raises:
            InvalidAddress, UnknownInterface.
        """
        try:
            wanted = ipaddress.ip_address(ip)
        except ValueError:
            raise InvalidAddress("Invalid IP address") from None
        found = await self._carriers()
        link = found.get(str(wanted))
        if link is None:
            raise UnknownInterface("Error interface not found for IP address")
        return link.name

    async def set_rules(self, ip: str, rules: Sequence[Rule]) -> None:
        """Replaces who may reach the VIP's interface.

        Raises:
            InvalidAddress, UnknownInterface, PlugFailed.
        """
        name = await self.interface_of(ip)
        try:
            text = firewall.vip_text(name, rules)
        except ValueError as error:
            raise InvalidAddress(f"Invalid rules information: {error}") from error
        try:
            await firewall.load(self._settings.namespace, text)
        except (OSError, RuntimeError) as error:
            raise PlugFailed("Unable to set the rules", str(error)) from error
        await asyncio.to_thread(write_atomically, self._settings.base_path / FIREWALL_FILE, text.encode(), 0o600)

    async def traffic(self) -> dict[str, tuple[int, int]]:
        """Bytes sent and received by each interface whose name starts with `eth`."""
        try:
            found = await self._there.run(links)
        except OSError:
            return {}
        return {link.name: (link.tx, link.rx) for link in found if link.name.startswith("eth")}

    def vips(self) -> tuple[str, ...]:
        """The VIPs of the last plug/vip call."""
        known = self._known_vip()
        return interface_file.vip_addresses(known.vip, known.body) if known is not None else ()

    async def announce(self, addresses: Iterable[str]) -> None:
        """Tells the neighbours of those addresses that the namespace has; the others are skipped. Never raises."""
        wanted = [str(ipaddress.ip_address(address)) for address in addresses]
        if not wanted:
            return
        try:
            carriers = await self._carriers()

            async def send(_netlink: AsyncIPRoute) -> None:
                for address in wanted:
                    if (link := carriers.get(address)) is not None and link.mac:
                        announcement.send(link.name, [announcement.frame(address, link.mac)])

            await self._there.run(send)
        except (OSError, NetlinkError) as error:
            log.warning("addresses not announced addresses=%s reason=%s", ",".join(wanted), error)

    async def _carriers(self) -> dict[str, Link]:
        """The interface of each address of the namespace."""

        async def look(netlink: AsyncIPRoute) -> dict[str, Link]:
            by_index = {link.index: link for link in await links(netlink)}
            found = {}
            async for message in await netlink.get_addr():
                if (link := by_index.get(message["index"])) is not None:
                    found[message.get("local") or message.get("address")] = link
            return found

        try:
            return await self._there.run(look)
        except FileNotFoundError:
            return {}

    # --- interfaces ---

    async def _find_here(self, mac: str, message: str) -> Link:
        """The interface with that MAC in the agent's own namespace, if it may be taken."""

        async def look(netlink: AsyncIPRoute) -> tuple[Link | None, set[int]]:
            return await find_link(netlink, mac=mac), await links_with_default_route(netlink)

        link, protected = await self._here.run(look)
        if link is None:
            await asyncio.to_thread(_rescan)
            raise NoInterface("No suitable network interface found")
        if link.index in protected:
            raise PlugFailed(message, f"{link.name} is the management interface: it carries the default route")
        return link

    async def _move(self, mac: str, name: str) -> None:
        """Into the namespace, under that name, in one step; nothing when it is there already."""
        there = await self._there.run(lambda netlink: find_link(netlink, mac=mac))
        if there is not None:
            if there.name != name:
                await self._there.run(lambda netlink: _rename(netlink, there, name))
            return
        link = await self._find_here(mac, "Error plugging network")
        try:
            with open(self._path, "rb") as namespace:  # noqa: ASYNC230 - no disk behind it
                descriptor = namespace.fileno()
                await self._here.run(lambda netlink: _give(netlink, link, descriptor, name))
        except (NetlinkError, OSError) as error:
            raise PlugFailed("Error plugging network", f"{link.name} cannot become {name}: {error}") from error

    async def _finish(self, mac: str, name: str, message: str) -> None:
        """Moves the interface if that is still to be done, and brings it up as the files say."""
        await self._move(mac, name)
        files = await asyncio.to_thread(self._files)
        try:
            await self._load_firewall(files)
            for file in files:
                if file.name == name:
                    await self._bring_up(file, files)
        except (NetlinkError, OSError, LookupError, RuntimeError) as error:
            raise PlugFailed(message, f"{name}: {error}") from error

    async def _bring_up(self, file: InterfaceFile, files: Sequence[InterfaceFile]) -> None:
        others = any(other.if_type == "vip" and other.name != file.name for other in files)
        changed = await self._there.run(lambda netlink: bring_up(netlink, file, rules_from_elsewhere=others))
        if any(address.dhcp for address in file.addresses):
            await self._start_dhcp(file.name)
        if changed:
            log.info("interface up name=%s addresses=%d routes=%d", file.name, len(file.addresses), len(file.routes))

    async def _start_dhcp(self, name: str) -> None:
        program = shutil.which("dhclient", path=f"{os.environ.get('PATH', '')}:{PATH}")
        if program is None:
            raise OSError(f"{name} gets its address by DHCP, and dhclient is not installed")
        pid_file = f"/run/dhclient-{name}.pid"
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(await asyncio.to_thread(Path(pid_file).read_text)), 0)
            return  # it runs
        leases = self._settings.base_path / f"dhclient-{name}.leases"
        await run_program("nsenter", f"--net={self._path}", program, "-nw", "-lf", str(leases), "-pf", pid_file, name)

    async def _load_firewall(self, files: Sequence[InterfaceFile]) -> None:
        """The VIP's firewall before its interface is up, and no tracking on the others."""
        text = firewall.masquerade_text({file.name: _families(file) for file in files if _is_plain(file)})
        guarded = next((file.name for file in files if file.if_type == "vip" and file.is_sriov), None)
        if guarded is not None:
            rules = self._settings.base_path / FIREWALL_FILE
            with contextlib.suppress(FileNotFoundError):
                text += await asyncio.to_thread(rules.read_text)
                guarded = None
            if guarded is not None:
                text += firewall.vip_text(guarded, None)
        try:
            await firewall.load(self._settings.namespace, text)
        except (OSError, RuntimeError) as error:
            if guarded is not None or any(file.is_sriov for file in files):
                raise  # an open port is worse than none
            log.warning("connection tracking stays as it is reason=%s", error)

    async def _free_name(self, mac: str) -> str:
        recorded = await asyncio.to_thread(self._records)
        if mac.lower() in recorded:  # a call that was interrupted before the interface was moved
            return recorded[mac.lower()]
        taken = {link.name for link in await self._there.run(links)}
        return next(name for number in range(2, 10000) if (name := f"eth{number}") not in taken)

    # --- files ---

    async def _write(self, file: InterfaceFile) -> None:
        directory = self._settings.network_dir

        def write() -> None:
            make_directory(directory)
            write_atomically(directory / f"{file.name}.json", interface_file.encode(file), 0o644)

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise PlugFailed("Error plugging network", f"{directory}/{file.name}.json: {error}") from error

    def _files(self) -> list[InterfaceFile]:
        found = []
        for path in sorted(self._settings.network_dir.glob("*.json")):
            try:
                found.append(interface_file.decode(path.read_bytes()))
            except (OSError, ValueError) as error:
                log.error("interface file skipped path=%s reason=%s", path, error)
        return found

    def _records(self) -> dict[str, str]:
        """Interface names by MAC address, in lower case."""
        try:
            lines = (self._settings.base_path / RECORDS).read_text().splitlines()
        except FileNotFoundError:
            return {}
        return {words[0].lower(): words[1] for line in lines if len(words := line.split()) == 2}

    def _is_recorded(self, mac: str, name: str) -> bool:
        return self._records().get(mac.lower()) == name

    def _record(self, mac: str, name: str) -> None:
        """Remembers an interface; one that had the name before has been unplugged."""
        if self._is_recorded(mac, name):
            return
        records = {other: its for other, its in self._records().items() if its != name} | {mac.lower(): name}
        make_directory(self._settings.base_path)
        content = "".join(f"{other} {its}\n" for other, its in records.items())
        write_atomically(self._settings.base_path / RECORDS, content.encode(), 0o644)

    def _known_vip(self) -> _VipRecord | None:
        try:
            return msgspec.json.decode((self._settings.base_path / VIP_RECORD).read_bytes(), type=_VipRecord)
        except (OSError, ValueError):
            return None


async def _give(netlink: AsyncIPRoute, link: Link, namespace: int, name: str) -> None:
    await netlink.link("set", index=link.index, net_ns_fd=namespace, ifname=name)


async def _rename(netlink: AsyncIPRoute, link: Link, name: str) -> None:
    await netlink.link("set", index=link.index, state="down")
    await netlink.link("set", index=link.index, ifname=name)


def _rescan() -> None:
    """Asks the PCI bus for what was plugged without telling."""
    with contextlib.suppress(OSError):
        RESCAN.write_text("1")


def _is_plain(file: InterfaceFile) -> bool:
    return file.if_type != "lo" and not file.is_sriov


def _families(file: InterfaceFile) -> set[int]:
    families = {6 if ":" in address.address else 4 for address in file.addresses if address.address}
    return families or {4, 6}
