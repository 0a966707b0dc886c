//! Who is still at an operation that was asked for by a request. Knows nothing of
//! sockets or the kernel, so that it runs in tests on any host.
//!
//! Four may be at it at once, on different processors: who *submits* it (calls
//! the provider, and is told of its end possibly within that call); its *end*
//! (the completion routine); the framework's *cancel callback*; and *cancellers*,
//! who have called or are about to call `IoCancelIrp`. Every step here is taken
//! under the socket's lock, and each says whether the operation is over: that is
//! said once, to whoever leaves it last, and that one completes the request.
//!
//! The framework's rule is that a request that was marked cancelable is completed
//! only if unmarking it succeeds, or by the time the callback has begun. So if
//! unmarking fails, the callback is waited for, and what the operation came to
//! stays: bytes that were received are not lost by a cancel that came too late.

/// How far the framework's cancel callback is out of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callback {
    /// It may come.
    Possible,
    /// It will never come: unmarking succeeded.
    Impossible,
    /// It has not come yet, and will: unmarking failed.
    Coming,
    /// It has come.
    Came,
}

/// What the submitter has to do when it has made its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Submitted {
    /// Nothing: the rest is done by others.
    Flying,
    /// A cancel came before there was anything to cancel: cancel the operation,
    /// then call [`Flight::cancelled`].
    Cancel,
    /// The operation is over.
    Over,
}

/// One operation from its submission until it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    submitting: bool,
    ended: bool,
    /// To be cancelled as soon as it has been submitted.
    wanted: bool,
    /// Who is about to call `IoCancelIrp`, or in it.
    cancellers: u32,
    callback: Callback,
}

impl Flight {
    /// An operation that is about to be submitted, its request marked cancelable.
    pub(super) const fn new() -> Self {
        Self {
            submitting: true,
            ended: false,
            wanted: false,
            cancellers: 0,
            callback: Callback::Possible,
        }
    }

    /// The call was made, or could not be made and [`Flight::ended`] was called
    /// in its place.
    pub(super) fn submitted(&mut self) -> Submitted {
        self.submitting = false;
        if self.wanted && !self.ended {
            self.wanted = false;
            self.cancellers = self.cancellers.saturating_add(1);
            return Submitted::Cancel;
        }
        if self.is_over() {
            Submitted::Over
        } else {
            Submitted::Flying
        }
    }

    /// The operation has ended; `unmark` says whether unmarking the request
    /// succeeded. True if the operation is over.
    pub(super) fn ended(&mut self, unmark: impl FnOnce() -> bool) -> bool {
        self.ended = true;
        if self.callback == Callback::Possible {
            self.callback = if unmark() {
                Callback::Impossible
            } else {
                Callback::Coming
            };
        }
        self.is_over()
    }

    /// Somebody wants it cancelled. True if the caller is to cancel it now, and
    /// then to call [`Flight::cancelled`].
    pub(super) fn cancel(&mut self) -> bool {
        if self.ended {
            return false;
        }
        if self.submitting {
            self.wanted = true;
            return false;
        }
        self.cancellers = self.cancellers.saturating_add(1);
        true
    }

    /// A canceller is done. True if the operation is over.
    pub(super) fn cancelled(&mut self) -> bool {
        self.cancellers = self.cancellers.saturating_sub(1);
        self.is_over()
    }

    /// The framework's callback has come. To be called once it has decided, by
    /// [`Flight::cancel`], whether it will cancel. True if the operation is over.
    pub(super) fn came(&mut self) -> bool {
        self.callback = Callback::Came;
        self.is_over()
    }

    fn is_over(&self) -> bool {
        self.ended
            && !self.submitting
            && self.cancellers == 0
            && matches!(self.callback, Callback::Impossible | Callback::Came)
    }
}
