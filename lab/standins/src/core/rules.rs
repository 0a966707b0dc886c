//! The rules the lab enforces.
//!
//! Names are those of Driver Verifier and Static Driver Verifier where those
//! have one (MSDN, "DDI Compliance Rules" and the rule sets for WDM, KMDF and
//! NDIS); names of the lab's own start with `Lab`. The meaning says the bug
//! check Windows would raise, where it would.

macro_rules! rules {
    ($($variant:ident => $meaning:literal,)+) => {
        /// A rule a driver must keep.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule { $(#[doc = $meaning] $variant,)+ }

        impl Rule {
            /// Every rule, in the order of the table.
            pub const ALL: &'static [Rule] = &[$(Rule::$variant,)+];

            /// The name that tests and people see.
            pub const fn name(self) -> &'static str {
                match self { $(Rule::$variant => stringify!($variant),)+ }
            }

            /// One line on what the rule demands.
            pub const fn meaning(self) -> &'static str {
                match self { $(Rule::$variant => $meaning,)+ }
            }
        }
    };
}

rules! {
    // ---- lab itself -------------------------------------------------------
    LabUnimplemented => "the driver called something the lab does not have",
    LabBadParameter => "an argument the documentation forbids (null pointer, unknown constant, wrong size)",
    LabBugCheck => "the driver called KeBugCheckEx",
    LabException => "an unhandled exception (access violation, ...) inside driver code",
    LabLeak => "something the driver made was still there after it unloaded",

    // ---- IRQL -------------------------------------------------------------
    IrqlExAllocatePool => "pool is allocated at IRQL <= DISPATCH_LEVEL, paged pool at <= APC_LEVEL",
    IrqlExFree => "pool is freed at IRQL <= DISPATCH_LEVEL",
    IrqlKeDispatchLte => "Ke functions that need IRQL <= DISPATCH_LEVEL",
    IrqlKeWait => "a wait with a time-out other than zero needs IRQL <= APC_LEVEL",
    IrqlKeSetEvent => "KeSetEvent needs IRQL <= DISPATCH_LEVEL, and <= APC_LEVEL with Wait",
    IrqlKeReleaseSpinLock => "KeReleaseSpinLock restores the IRQL that the acquire returned",
    IrqlKeRaiseLower => "KeRaiseIrql only raises, KeLowerIrql only lowers",
    IrqlIoDispatch => "Io functions that need IRQL <= DISPATCH_LEVEL",
    IrqlExPassive => "Ex and Ke functions that need IRQL below DISPATCH_LEVEL",
    IrqlPsPassive => "Ps functions that need IRQL = PASSIVE_LEVEL",
    IrqlObPassive => "Ob functions that need IRQL = PASSIVE_LEVEL",
    IrqlZwPassive => "Zw functions need IRQL = PASSIVE_LEVEL",
    IrqlMmDispatch => "Mm functions that need IRQL <= DISPATCH_LEVEL",
    IrqlReturn => "a driver callback returns at the IRQL it was called at",
    IrqlKmdf => "KMDF functions are called at the IRQL their page states (KmdfIrql)",

    // ---- locks ------------------------------------------------------------
    SpinLock => "a spin lock is not acquired by the processor that already holds it",
    SpinLockRelease => "a spin lock is released by its holder, last acquired first",
    SpinLockSafe => "a spin lock lives in non-paged memory, was initialised, and is free when its memory is",
    SpinLockReturn => "no spin lock is held when a driver callback returns",
    RundownProtection => "rundown protection is released as often as acquired, waited for once",

    // ---- pool -------------------------------------------------------------
    LabPoolDoubleFree => "a pool block is freed once (bug check 0xC2, 7)",
    LabPoolBadFree => "what is freed is a pool block (bug check 0xC2, 0x46)",
    LabPoolWrongTag => "a pool block is freed with the tag it was allocated with (bug check 0xC2, 0xA)",
    LabPoolOverrun => "nothing is written before or behind a pool block (bug check 0xC1 / 0x19)",
    LabPoolUseAfterFree => "nothing is written to a pool block after it was freed (bug check 0xC5)",
    LabPoolZeroSize => "an allocation has a size and a tag (bug check 0xC4, 0)",
    LabPoolFreeActive => "no active timer, DPC, lock, event waiter, or MDL lies in freed memory (bug check 0xC7)",
    LabPoolLeak => "every pool block is freed before the driver unloads (bug check 0xC4, 0x62)",

    // ---- dispatcher objects, DPCs, timers, threads ------------------------
    LabObjectUninitialized => "an event, timer or DPC is initialised before use",
    LabTimerActive => "a timer is not initialised again while it is set",
    LabDpcActive => "a DPC is not initialised again while it is queued",
    LabWorkItemQueued => "a work item is not queued twice, nor freed while queued (bug check 0xE4)",
    LabWorkItemFreed => "a work item is not used after IoFreeWorkItem",
    LabThreadExit => "a system thread ends before its driver's image goes away (bug check 0xCE)",
    LabHandle => "a handle or reference is closed once, and is of the right kind (bug check 0xC4, 0xF6)",
    LabEtwHandle => "an ETW handle is registered once and unregistered once",

    // ---- IRPs and MDLs ----------------------------------------------------
    DoubleCompletion => "an IRP or request is completed once",
    IoFreePendingIrp => "an IRP is freed only when no driver below owns it (bug check 0xC9)",
    IoReuseIrp => "an IRP is reused only when its last request is complete",
    IoAllocateFree => "an IRP, MDL or work item from Io* is freed once, by the matching function",
    LabIrpSetup => "an IRP handed down has a completion routine in its next stack location",
    LabIrpStack => "an IRP has a stack location left",
    LabMdl => "an MDL is built once, mapped once, and describes live memory",

    // ---- KMDF -------------------------------------------------------------
    LabWdfBind => "WDF_BIND_INFO is what the loader accepts",
    LabWdfUnbound => "no KMDF function is called before bind or after unbind",
    DriverCreate => "WdfDriverCreate is called exactly once, at PASSIVE_LEVEL",
    LabWdfStructSize => "the Size field of a KMDF structure is the structure's size",
    InvalidHandle => "a KMDF handle is alive and of the right type (bug check 0x10D, 5)",
    LabWdfGlobals => "the first argument of a KMDF function is the driver's globals",
    InitFreeDeviceCreate => "a device-init is either consumed by WdfDeviceCreate or freed, once",
    DeviceInitAPI => "device-init functions are called before WdfDeviceCreate",
    CtlDeviceFinishInitDrEntry => "WdfControlFinishInitializing is called once for each control device",
    RequestCompleted => "every request that reaches the driver is completed",
    InvalidReqAccess => "a request is not touched after it was completed or forwarded",
    LabRequestInformation => "a request's information does not exceed its buffer",
    ReqNotCanceled => "a cancelable request is un-marked before it is completed",
    MarkCancOnCancReq => "a request is marked cancelable once",
    ReqIsCancOnCancReq => "WdfRequestIsCanceled is for requests that are not marked cancelable",
    WdfSpinlock => "a framework spin lock is not acquired twice by one thread",
    WdfSpinlockRelease => "a framework spin lock is released by its holder, last acquired first",
    WdfWaitlock => "a framework wait lock is not acquired twice by one thread",
    WdfWaitlockRelease => "a framework wait lock is released by its holder",
    ParentObjectCheck => "an object gets a parent that may have it, or none where none is allowed",
    ObjectReference => "a framework object is dereferenced as often as it was referenced",
    ReqDelete => "objects the framework owns are not deleted by the driver",
    LabWdfContext => "an object has one context of each type, and the type was declared",
    LabWdfQueue => "a queue is created, started and stopped in a state that allows it",
    LabWdfTimer => "a framework timer is started, stopped and parented as documented",

    // ---- NDIS (lab-ndis) --------------------------------------------------
    IrqlFilterDriverFunction => "NdisF functions are called at the IRQL their pages state (Irql_Filter_Driver_Function)",
    IrqlNetBufferFunction => "NET_BUFFER functions are called at IRQL <= DISPATCH_LEVEL (Irql_NetBuffer_Function)",
    IrqlOidFunction => "OID request functions are called at IRQL <= DISPATCH_LEVEL (Irql_OID_Function)",
    IrqlStatusIndicationFunction => "status indications are made at IRQL <= DISPATCH_LEVEL (Irql_StatusIndication_Function)",
    NdisFilterTimedDataSend => "a filter passes on or completes a send within the time limit (bug check 0xC4)",
    NdisFilterTimedDataReceive => "a filter passes on or returns a receive within the time limit (bug check 0xC4)",
    NdisFilterTimedPauseComplete => "FilterPause completes in time, does not fail, completes once (bug check 0xC4, 0x92010)",
    NdisTimedOidComplete => "an OID request is completed in time (bug check 0xC4)",
    NdisOidComplete => "an OID request is completed with a final status (bug check 0xC4, 0x91001)",
    DoubleComplete => "an OID request is completed once",
    NdisFDeregisterFilterDriver => "a filter driver deregisters, once, before it unloads",
    NdisMNetPnPEventInOIDRequest => "no network PnP event is raised from within an OID request",
    NdisAllocateMdl => "each MDL from NdisAllocateMdl is freed by NdisFreeMdl, once, before unload",
    NdisAllocateNetBuffer => "each NET_BUFFER_LIST with its NET_BUFFER is freed before unload",
    LabNdisHandle => "an NDIS handle is one NDIS gave to this driver and still valid",
    LabNdisFilterState => "NdisF functions are called only in the module states that allow them",
    LabNdisHandlers => "a filter that originates sends, receives or OID requests has the handlers that get them back",
    LabNdisSetAttributes => "FilterAttach calls NdisFSetAttributes once before it succeeds",
    LabNdisRestart => "FilterRestart completes within the time limit, once",
    LabNdisPauseIncomplete => "a pause is complete when the filter's own NBLs are back and it holds none of others",
    LabNdisOptionalHandlers => "partial characteristics are changed from FilterSetModuleOptions only",
    LabNdisDispatchFlag => "a DISPATCH_LEVEL flag is set only at DISPATCH_LEVEL",
    LabNdisNblNotOwned => "a filter passes on only NBLs that it owns at that moment",
    LabNdisNblDoubleReturn => "an NBL is completed or returned once",
    LabNdisNblWrongDirection => "sends are passed down and completed up, receives passed up and returned down, own NBLs neither",
    LabNdisNblModified => "what belongs to an NBL's originator is not changed by a filter that passes it on",
    LabNdisNblChain => "an NBL chain has no ring and is as long as the call says",
    LabNdisNblFree => "an NBL is freed once, by the matching function, by the driver that made it and owns it",
    LabNdisParent => "a list that others are derived from stays with the filter until they are back",
    LabNdisNetBufferFree => "a NET_BUFFER is freed once, by NdisFreeNetBuffer, when its list is not elsewhere",
    LabNdisNetBuffer => "a NET_BUFFER's MDL chain holds its data",
    LabNdisResources => "NBLs indicated with NDIS_RECEIVE_FLAGS_RESOURCES are neither kept nor returned, and stay chained",
    LabNdisSourceHandle => "SourceHandle is the filter's handle on what it originates, and unchanged on the rest",
    LabNdisPool => "an NBL pool is used for what it was made for, and freed once, empty",
    LabNdisOidClone => "an OID request is forwarded as a clone, which is sent once, freed once, never completed up",
    LabNdisOidResult => "what the miniport answered is copied from the clone to the original, and only that",

    // ---- WSK (lab-wsk) ----------------------------------------------------
    LabWskIrql => "a WSK function is called at the IRQL its page states",
    LabWskNullArgument => "what a WSK function needs is not a null pointer",
    LabWskFlags => "flags of a WSK call are those its page knows; reserved ones are zero",
    LabWskInvalidSocket => "a WSK_SOCKET is one that the provider handed out",
    LabWskClosedSocket => "no call is made on a socket after WskCloseSocket",
    LabWskCategory => "a WSK function is called on a socket of its category",
    LabWskCloseInProgress => "WskCloseSocket is called when no other call on the socket is in progress",
    LabWskIrpRequired => "a WSK call that completes asynchronously gets an IRP",
    LabWskIrpForbidden => "a WSK control that takes no IRP gets none",
    LabWskCallInCompletion => "no WSK function is called from the completion routine of a WSK request",
    LabWskWaitInCallback => "no WSK callback or completion routine waits, not even at PASSIVE_LEVEL",
    LabWskBuffer => "a WSK_BUF lies within its MDL chain, and its MDLs are built and locked",
    LabWskBufferChanged => "MDLs and data of a pending WSK call are left alone until its IRP completes",
    LabWskRetained => "data indications are released before their socket is closed",
    LabWskRelease => "what is released is a data indication or address list that was kept: once, whole, as it was",
    LabWskCallbackStatus => "a WSK event callback returns one of its documented statuses",
    LabWskEvents => "event callbacks are enabled on sockets that have them, with a function, and disabled one by one",
    LabWskOrder => "options, event callbacks and addresses are set before or after bind and connect as documented",
    LabWskInspect => "an inspection of a connection is completed once, by accepting or rejecting, if it was pended",
    LabWskSecurity => "a security descriptor is one that WSK_CACHE_SD returned, and is released once",
    LabWskRegistration => "a WSK_REGISTRATION is used for one registration at a time and left as it is",
    LabWskNpi => "the provider NPI is used while captured and released as often as captured",
    LabWskDeregister => "WskDeregister is called when sockets are closed and the provider NPI is released",
}
