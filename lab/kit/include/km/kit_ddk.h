/*
 * Debian's mingw-w64 DDK headers, made fit for clang in MSVC mode.
 *
 * Used in place, from the package mingw-w64-common. What the WDK's own headers
 * have and these lack, or spell as something bindgen cannot see (a macro, an
 * inline function), is added below under the name the documentation gives it.
 */
#ifndef KIT_DDK_H
#define KIT_DDK_H

#ifndef _NTDRIVER_
#define _NTDRIVER_
#endif

#include <ntdef.h>

/* The usual null-pointer arithmetic is not a constant expression to clang. */
#undef FIELD_OFFSET
#define FIELD_OFFSET(type, field) ((LONG)__builtin_offsetof(type, field))

/*
 * On x64 mingw-w64 inlines these as accesses to CR8, the WDK calls the kernel.
 * A read of CR8 is a fault for whoever runs a driver outside of ring 0, so the
 * inline bodies are moved out of the way and the exports declared.
 */
#define KeGetCurrentIrql kit_inline_KeGetCurrentIrql
#define KfRaiseIrql kit_inline_KfRaiseIrql
#define KeLowerIrql kit_inline_KeLowerIrql
#include_next <ntddk.h>
#undef KeGetCurrentIrql
#undef KfRaiseIrql
#undef KeLowerIrql
NTKERNELAPI KIRQL NTAPI KeGetCurrentIrql(VOID);
NTKERNELAPI KIRQL NTAPI KfRaiseIrql(KIRQL NewIrql);
NTKERNELAPI VOID NTAPI KeLowerIrql(KIRQL NewIrql);

/* ExAllocatePool2, "ExAllocatePool2 function (wdm.h)": Windows 10 2004. */
typedef ULONG64 POOL_FLAGS;
NTKERNELAPI PVOID NTAPI ExAllocatePool2(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag);

/* A macro over ExFreePoolWithTag there; a function here, as it is exported. */
#undef ExFreePool
NTKERNELAPI VOID NTAPI ExFreePool(PVOID P);

/* "KeQuerySystemTimePrecise function (wdm.h)": Windows 8. */
NTKERNELAPI VOID NTAPI KeQuerySystemTimePrecise(PLARGE_INTEGER CurrentTime);

#endif
