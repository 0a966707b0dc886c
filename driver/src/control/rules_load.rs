//! RULES_LOAD: puts rules in force, or takes them away.

use weir_abi::{ReplyHeader, RuleAction, RulesLoadReply, RulesLoadRequest};

use super::TAG;
use super::reply::Reply;
use crate::error::Error;
use crate::kernel::pool::KBuf;
use crate::kernel::wdf::Request;
use crate::rules::{self, Loaded};

/// A copy of the program that came behind the request; `None` if none did. Made
/// before the reply, whose memory is the request's.
pub(super) fn program(request: &Request, program_len: u32) -> Result<Option<KBuf>, Error> {
    let len = usize::try_from(program_len).unwrap_or(usize::MAX);
    if len == 0 {
        return Ok(None);
    }
    let mut program = KBuf::try_zeroed(len, TAG)?;
    let (input, input_len) = request.input(size_of::<RulesLoadRequest>())?;
    // SAFETY: `input_len` bytes of the system's copy, which stays until the
    // request is completed and which nobody writes before `Reply` is made of it.
    let input = unsafe { core::slice::from_raw_parts(input, input_len) };
    let from = RulesLoadRequest::program(input);
    if from.len() != len {
        // Command::decode has made it out of this very length.
        return Err(Error::TooSmall);
    }
    program.copy_from_slice(from);
    Ok(Some(program))
}

pub(super) fn handle(program: Option<KBuf>, reply: Reply<'_>) -> Result<usize, Error> {
    let header = ReplyHeader::of::<RulesLoadReply>();
    let Some(program) = program else {
        return reply.one(&RulesLoadReply {
            header,
            generation: rules::clear()?,
            memory: 0,
            program_len: 0,
            rules: 0,
            tuples: 0,
            insns: 0,
            default_action: RuleAction::Pass.into(),
            reserved: 0,
        });
    };
    let Loaded {
        generation,
        memory,
        program_len,
        rules,
        tuples,
        insns,
        default_action,
    } = rules::load(program)?;
    // The room was checked before: this doesn't fail.
    reply.one(&RulesLoadReply {
        header,
        generation,
        memory,
        program_len,
        rules,
        tuples,
        insns,
        default_action: default_action.to_format(),
        reserved: 0,
    })
}
