//! A typed call that may take its time.

use std::marker::PhantomData;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use weir_abi::Request;

use crate::channel::{Channel, Completion, Pending};
use crate::device::checked_reply;
use crate::error::Error;
use crate::kind::Doing;

use super::failed;

/// A call under way. Dropping it lets it go on, and nobody learns how it ended.
pub(crate) struct Call<R> {
    pending: Option<Box<dyn Pending>>,
    doing: Doing,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Call<R> {
    /// Sends a request whose reply has the fixed length of that of `R`.
    pub(crate) fn start<Q: Request<Reply = R::Reply>>(
        channel: &dyn Channel,
        request: &Q,
        doing: Doing,
    ) -> Result<Call<R>, Error> {
        let room = size_of::<R::Reply>();
        match channel.start_control(Q::IOCTL.code(), request.as_bytes(), room) {
            Ok(pending) => {
                tracing::trace!(operation = Q::IOCTL.name(), %doing, "started");
                Ok(Call {
                    pending: Some(pending),
                    doing,
                    request: PhantomData,
                })
            }
            Err(failure) => Err(failed(doing, failure)),
        }
    }

    /// The reply in a completion.
    fn reply(&mut self, completion: Completion) -> Result<R::Reply, Error> {
        self.pending = None;
        let Completion { result, mut buffer } = completion;
        let len = result.map_err(|failure| failed(self.doing.clone(), failure))?;
        buffer.truncate(len);
        checked_reply::<R>(&buffer)
    }

    /// Waits for the reply, at most for `timeout`. `None` when the time is
    /// over; it may be waited for again.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Option<Result<R::Reply, Error>> {
        let completion = self.pending.as_mut()?.wait(timeout)?;
        Some(self.reply(completion))
    }

    /// Waits for the reply, at most for `timeout`; cancels then. A reply that
    /// came all the same is not thrown away.
    pub(crate) fn wait_or_cancel(&mut self, timeout: Option<Duration>) -> Result<R::Reply, Error> {
        if let Some(result) = self.wait(timeout) {
            return result;
        }
        self.cancel();
        match self.wait(None) {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(Error::Socket { failure, .. })) if failure.is_cancelled() => {
                Err(Error::TimedOut {
                    doing: self.doing.clone(),
                    after: timeout.unwrap_or_default(),
                })
            }
            Some(Err(error)) => Err(error),
            None => Err(Error::AfterShutdown),
        }
    }

    /// The reply if it is there; else the task is woken when it comes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<R::Reply, Error>> {
        let Some(pending) = &mut self.pending else {
            return Poll::Ready(Err(Error::AfterShutdown));
        };
        let completion = ready!(pending.poll(cx));
        Poll::Ready(self.reply(completion))
    }
}

impl<R> Call<R> {
    /// Asks for its end.
    pub(crate) fn cancel(&self) {
        if let Some(pending) = &self.pending {
            pending.cancel();
        }
    }
}
