/*
 * WdfDriverEntry.lib: the entry point of a KMDF driver's image.
 *
 * Windows calls FxDriverEntry. It binds the image to the framework, which fills
 * in the function table and the globals, calls the driver's own DriverEntry,
 * and sees to it that the bind is undone: when DriverEntry fails, at once;
 * otherwise after the framework's unload routine has run.
 *
 * The driver here binds no class extension, so there is none to unbind.
 */
#include <ntddk.h>
#include <wdf.h>

typedef struct _WDF_VERSION {
    UINT32 Major;
    UINT32 Minor;
    UINT32 Build;
} WDF_VERSION;

typedef struct _WDF_BIND_INFO {
    ULONG Size;
    PWCHAR Component;
    WDF_VERSION Version;
    ULONG FuncCount;
    /* From 439 functions on: where the library stores the table's address. */
    const WDFFUNC **FuncTable;
    PVOID Module;
} WDF_BIND_INFO;
C_ASSERT(sizeof(WDF_BIND_INFO) == 48);
C_ASSERT(FIELD_OFFSET(WDF_BIND_INFO, FuncCount) == 28);
C_ASSERT(FIELD_OFFSET(WDF_BIND_INFO, FuncTable) == 32);

NTSTATUS NTAPI WdfVersionBind(PDRIVER_OBJECT, PUNICODE_STRING, WDF_BIND_INFO *,
                              PWDF_DRIVER_GLOBALS *);
NTSTATUS NTAPI WdfVersionUnbind(PUNICODE_STRING, WDF_BIND_INFO *, PWDF_DRIVER_GLOBALS);
NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT, PUNICODE_STRING);

const WDFFUNC *WdfFunctions_01031;
ULONG WdfFunctionCount = WdfFunctionTableNumEntries;
PWDF_DRIVER_GLOBALS WdfDriverGlobals;

/* The framework keeps the pointer until the unbind. */
static WDF_BIND_INFO bind_info = {
    sizeof(WDF_BIND_INFO),
    L"KmdfLibrary",
    {KMDF_VERSION_MAJOR, KMDF_VERSION_MINOR, 0},
    WdfFunctionTableNumEntries,
    &WdfFunctions_01031,
    NULL,
};

/* The unbind names the service again, long after the original has gone. */
static WCHAR registry_path_buffer[260];
static UNICODE_STRING registry_path = {0, sizeof(registry_path_buffer), registry_path_buffer};

/* The framework's unload routine, when it asked to be displaced. */
static PDRIVER_UNLOAD framework_unload;

/* The framework's unload runs EvtDriverUnload and deletes what the driver left;
 * after the unbind there must be no call into the framework. */
static VOID NTAPI unload(PDRIVER_OBJECT driver)
{
    if (framework_unload != NULL)
        framework_unload(driver);
    WdfVersionUnbind(&registry_path, &bind_info, WdfDriverGlobals);
}

NTSTATUS NTAPI FxDriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    NTSTATUS status;

    /* A filter or export driver may be started without a driver object; there
     * is nothing for the framework to attach to. */
    if (driver == NULL)
        return DriverEntry(driver, path);

    RtlCopyUnicodeString(&registry_path, path);

    status = WdfVersionBind(driver, &registry_path, &bind_info, &WdfDriverGlobals);
    if (!NT_SUCCESS(status))
        return status;

    status = DriverEntry(driver, path);
    if (!NT_SUCCESS(status)) {
        WdfVersionUnbind(&registry_path, &bind_info, WdfDriverGlobals);
        return status;
    }

    if (WdfDriverGlobals->DisplaceDriverUnload) {
        /* No unload routine means the driver cannot be unloaded: leave it so. */
        if (driver->DriverUnload != NULL) {
            framework_unload = driver->DriverUnload;
            driver->DriverUnload = unload;
        }
    }
    return status;
}
