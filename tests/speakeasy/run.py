"""Load a KMDF driver in the speakeasy emulator and run its DriverEntry.

Prints every call the driver makes and what it got. Exits with 0 when the
entry point bound KMDF, created the WDFDRIVER, went on, and returned success.
"""

import logging
import sys

import speakeasy
import speakeasy.winenv.arch as arch
from speakeasy.winenv.api.kernelmode.wdfldr import Wdfldr
from speakeasy.winenv.defs import wdf

PTR = 8
SUCCESS = 0

def write_pointer(emu, address, value):
    if address:
        emu.mem_write(address, value.to_bytes(PTR, "little"))


def new_object(emu, size=0x1000):
    return emu.mem_map(size, tag="hook.object", perms=0x3)


def allocate_pool(emu, name, original, args):
    flags, size, tag = args
    # POOL_FLAG_UNINITIALIZED is not set by the driver: memory comes zeroed.
    return emu.mem_map(max(size, 16), tag="hook.pool")


def returns(value):
    return lambda emu, name, original, args: value


def returns_object(emu, name, original, args):
    return new_object(emu)


def stores_object(index):
    """A function which stores a new object through its argument `index`."""

    def hook(emu, name, original, args):
        write_pointer(emu, args[index], new_object(emu))
        return SUCCESS

    return hook


def device_create(emu, name, original, args):
    # The framework takes the WDFDEVICE_INIT over and clears the caller's
    # pointer to it; the emulator leaves it, and the driver would free it.
    status = original(args)
    write_pointer(emu, args[1], 0)
    return status


def system_time(emu, name, original, args):
    write_pointer(emu, args[0], 0x01DA0000_00000000)
    return SUCCESS


def init_unicode_string(emu, name, original, args):
    destination, source = args
    text = b""
    while source and emu.mem_read(source + len(text), 2) != b"\0\0":
        text += emu.mem_read(source + len(text), 2)
    emu.mem_write(destination, len(text).to_bytes(2, "little"))
    emu.mem_write(destination + 2, (len(text) + 2).to_bytes(2, "little"))
    write_pointer(emu, destination + 8, source)
    return SUCCESS


# (module, function): (number of arguments, hook)
HOOKS = {
    ("ntoskrnl", "ExAllocatePool2"): (3, allocate_pool),
    ("ntoskrnl", "ExFreePoolWithTag"): (2, returns(SUCCESS)),
    ("ntoskrnl", "KeQuerySystemTimePrecise"): (1, system_time),
    ("ntoskrnl", "KeQueryPerformanceCounter"): (1, returns(10_000_000)),
    ("ntoskrnl", "KeGetCurrentIrql"): (0, returns(0)),
    ("ntoskrnl", "KeQueryActiveProcessorCountEx"): (1, returns(2)),
    ("ntoskrnl", "KeQueryMaximumProcessorCountEx"): (1, returns(2)),
    ("ntoskrnl", "KeGetCurrentProcessorNumberEx"): (1, returns(0)),
    ("ntoskrnl", "KeInitializeSpinLock"): (1, returns(SUCCESS)),
    ("ntoskrnl", "KeAcquireSpinLockRaiseToDpc"): (1, returns(0)),
    ("ntoskrnl", "KeReleaseSpinLock"): (2, returns(SUCCESS)),
    ("ntoskrnl", "KeAcquireSpinLockAtDpcLevel"): (1, returns(SUCCESS)),
    ("ntoskrnl", "KeReleaseSpinLockFromDpcLevel"): (1, returns(SUCCESS)),
    ("ntoskrnl", "KeInitializeEvent"): (3, returns(SUCCESS)),
    ("ntoskrnl", "KeSetEvent"): (3, returns(0)),
    ("ntoskrnl", "KeClearEvent"): (1, returns(SUCCESS)),
    ("ntoskrnl", "KeResetEvent"): (1, returns(0)),
    ("ntoskrnl", "KeReadStateEvent"): (1, returns(1)),
    ("ntoskrnl", "KeWaitForSingleObject"): (5, returns(SUCCESS)),
    ("ntoskrnl", "KeInitializeTimerEx"): (2, returns(SUCCESS)),
    ("ntoskrnl", "KeInitializeDpc"): (3, returns(SUCCESS)),
    ("ntoskrnl", "KeSetTimerEx"): (4, returns(0)),
    ("ntoskrnl", "KeCancelTimer"): (1, returns(0)),
    ("ntoskrnl", "KeFlushQueuedDpcs"): (0, returns(SUCCESS)),
    ("ntoskrnl", "ExInitializeRundownProtection"): (1, returns(SUCCESS)),
    ("ntoskrnl", "ExReInitializeRundownProtection"): (1, returns(SUCCESS)),
    ("ntoskrnl", "ExAcquireRundownProtection"): (1, returns(1)),
    ("ntoskrnl", "ExReleaseRundownProtection"): (1, returns(SUCCESS)),
    ("ntoskrnl", "ExWaitForRundownProtectionRelease"): (1, returns(SUCCESS)),
    ("ntoskrnl", "ExRundownCompleted"): (1, returns(SUCCESS)),
    ("ntoskrnl", "IoAllocateWorkItem"): (1, returns_object),
    ("ntoskrnl", "IoFreeWorkItem"): (1, returns(SUCCESS)),
    ("ntoskrnl", "IoAllocateIrp"): (2, returns_object),
    ("ntoskrnl", "IoFreeIrp"): (1, returns(SUCCESS)),
    ("ntoskrnl", "RtlInitUnicodeString"): (2, init_unicode_string),
    ("ntoskrnl", "DbgPrint"): (1, returns(SUCCESS)),
    ("ntoskrnl", "DbgPrintEx"): (3, returns(SUCCESS)),
    ("ndis", "NdisGetVersion"): (0, returns(0x00060055)),  # 6.85, as Windows 11 has
    ("ndis", "NdisFRegisterFilterDriver"): (4, stores_object(3)),
    ("ndis", "NdisFDeregisterFilterDriver"): (1, returns(SUCCESS)),
    ("wdfldr", "WdfVersionUnbind"): (3, returns(SUCCESS)),
    ("wdfldr", "WdfControlDeviceInitAllocate"): (3, returns_object),
    ("wdfldr", "WdfDeviceInitAssignName"): (3, returns(SUCCESS)),
    ("wdfldr", "WdfDeviceInitAssignSDDLString"): (3, returns(SUCCESS)),
    ("wdfldr", "WdfDeviceInitSetExclusive"): (3, returns(SUCCESS)),
    ("wdfldr", "WdfDeviceInitSetDeviceType"): (3, returns(SUCCESS)),
    ("wdfldr", "WdfDeviceInitSetCharacteristics"): (4, returns(SUCCESS)),
    ("wdfldr", "WdfDeviceInitFree"): (2, returns(SUCCESS)),
    ("wdfldr", "WdfDeviceCreate"): (4, device_create),
    ("wdfldr", "WdfDeviceCreateSymbolicLink"): (3, returns(SUCCESS)),
    ("wdfldr", "WdfDeviceConfigureRequestDispatching"): (4, returns(SUCCESS)),
    ("wdfldr", "WdfControlFinishInitializing"): (2, returns(SUCCESS)),
    ("wdfldr", "WdfObjectDelete"): (2, returns(SUCCESS)),
    ("wdfldr", "WdfDriverWdmGetDriverObject"): (2, returns_object),
    ("wdfldr", "WdfSpinLockCreate"): (3, stores_object(2)),
    ("wdfldr", "WdfWaitLockCreate"): (3, stores_object(2)),
    ("wdfldr", "WdfTimerCreate"): (4, stores_object(3)),
    ("wdfldr", "WdfWorkItemCreate"): (4, stores_object(3)),
    ("wdfldr", "WdfObjectAllocateContext"): (4, stores_object(3)),
}


def fill_table():
    """Give the functions that the emulator names and leaves null an address.

    The place in the table is the emulator's own: it has the names in order.
    """
    original = Wdfldr.set_func_table

    def set_func_table(self, emu):
        original(self, emu)
        named = [name for name in vars(self.func_table) if name.startswith("pfnWdf")]
        for name in named:
            entry = getattr(self.func_table, name)
            if not isinstance(entry, int) or not entry:
                address = emu.add_callback(Wdfldr.name, name.removeprefix("pfn"))
                setattr(self.func_table, name, address)
        self.mem_write(self.func_table_ptr, self.func_table.get_bytes())

    Wdfldr.set_func_table = set_func_table


def print_calls(apis):
    """One line a call; a call that repeats the one before is only counted."""
    repeated = 0
    for index, api in enumerate(apis):
        following = apis[index + 1]["api_name"] if index + 1 < len(apis) else None
        if following == api["api_name"]:
            repeated += 1
            continue
        times = f"  ({repeated + 1} times)" if repeated else ""
        arguments = ", ".join(api["args"])
        print(f"{api['pc']}  {api['api_name']}({arguments}) -> {api['ret_val']}{times}")
        repeated = 0


def main(image):
    logging.disable(logging.CRITICAL)
    fill_table()
    emulator = speakeasy.Speakeasy()
    module = emulator.load_module(image)
    for (dll, function), (count, hook) in HOOKS.items():
        emulator.add_api_hook(
            hook, module=dll, api_name=function, argc=count, call_conv=arch.CALL_CONV_STDCALL
        )
    emulator.run_module(module)
    report = emulator.get_report()
    entry = report["entry_points"][0]

    calls = [api["api_name"].split(".")[-1] for api in entry["apis"]]
    print_calls(entry["apis"])
    print(f"{entry['ep_type']}: returned {entry.get('ret_val')}")

    problems = []
    if entry.get("error"):
        problems.append(f"the run ended early: {entry['error']}")
    if entry.get("ret_val") not in ("0x0", 0):
        problems.append(f"DriverEntry returned {entry.get('ret_val')}, not STATUS_SUCCESS")
    if "WdfDeviceInitFree" in calls:
        problems.append("a WDFDEVICE_INIT that became a device was freed")
    for wanted in ("WdfVersionBind", "WdfDriverCreate", "WdfControlDeviceInitAllocate"):
        if wanted not in calls:
            problems.append(f"{wanted} was not called")
    if not problems and not (
        calls.index("WdfVersionBind")
        < calls.index("WdfDriverCreate")
        < calls.index("WdfControlDeviceInitAllocate")
    ):
        problems.append("KMDF was not used in the order bind, driver, device")
    for problem in problems:
        print(f"FAIL: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: run.py IMAGE")
    sys.exit(main(sys.argv[1]))
