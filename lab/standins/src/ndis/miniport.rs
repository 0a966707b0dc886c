//! The virtual miniport's answers to OID requests.
//!
//! It knows a handful of OIDs and refuses all others, as a NIC does. Answers
//! are bytes in the layout of ntddndis.h.

use std::sync::atomic::Ordering;

use super::adapter::Adapter;
use super::consts::{
    STATUS_BUFFER_TOO_SHORT, STATUS_INVALID_LENGTH, STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED,
    STATUS_SUCCESS, oid, request,
};
use super::frame::Dir;
use super::types::{OidRequest, Status};

/// Carries out one request and fills in its result fields.
pub(crate) fn execute(adapter: &Adapter, asked: &mut OidRequest) -> Status {
    asked.supported_revision = 1;
    match asked.request_type {
        request::QUERY | request::QUERY_STATISTICS => query(adapter, asked),
        request::SET => set(adapter, asked),
        request::METHOD => method(asked),
        _ => STATUS_INVALID_PARAMETER,
    }
}

fn query(adapter: &Adapter, asked: &mut OidRequest) -> Status {
    let answer: Vec<u8> = match asked.data.oid {
        oid::GEN_HARDWARE_STATUS | oid::GEN_MEDIA_CONNECT_STATUS => vec![0; 4],
        oid::GEN_MAXIMUM_FRAME_SIZE => adapter.mtu.to_le_bytes().to_vec(),
        oid::GEN_CURRENT_PACKET_FILTER => adapter
            .packet_filter
            .load(Ordering::SeqCst)
            .to_le_bytes()
            .to_vec(),
        oid::GEN_CURRENT_LOOKAHEAD => adapter
            .lookahead
            .load(Ordering::SeqCst)
            .to_le_bytes()
            .to_vec(),
        oid::IEEE_802_3_CURRENT_ADDRESS => adapter.mac.to_vec(),
        oid::GEN_STATISTICS => statistics(adapter),
        _ => return STATUS_NOT_SUPPORTED,
    };
    let needed = answer.len() as u32;
    if asked.data.length < needed {
        asked.data.word1 = 0;
        asked.data.word2 = needed;
        return STATUS_BUFFER_TOO_SHORT;
    }
    let to = asked.data.information_buffer.cast::<u8>();
    // SAFETY: the request says its buffer has `length` bytes, which is enough.
    unsafe { std::ptr::copy_nonoverlapping(answer.as_ptr(), to, answer.len()) };
    asked.data.word1 = needed;
    asked.data.word2 = 0;
    STATUS_SUCCESS
}

/// `NDIS_STATISTICS_INFO`, revision 1: the header, the mask of supported
/// statistics, then 64-bit counters from `ifInDiscards` on.
fn statistics(adapter: &Adapter) -> Vec<u8> {
    let (up, down) = (adapter.stats(Dir::Up).offered, adapter.stats(Dir::Down).out);
    let mut bytes = vec![0x80, 1, 0x98, 0];
    bytes.extend_from_slice(&0x3F_u32.to_le_bytes());
    for counter in [0, 0, up.bytes, up.frames, 0, 0, down.bytes, down.frames] {
        bytes.extend_from_slice(&counter.to_le_bytes());
    }
    bytes.resize(0x98, 0);
    bytes
}

fn set(adapter: &Adapter, asked: &mut OidRequest) -> Status {
    let target = match asked.data.oid {
        oid::GEN_CURRENT_PACKET_FILTER => &adapter.packet_filter,
        oid::GEN_CURRENT_LOOKAHEAD => &adapter.lookahead,
        _ => return STATUS_NOT_SUPPORTED,
    };
    if asked.data.length < 4 {
        asked.data.word2 = 4;
        return STATUS_INVALID_LENGTH;
    }
    let mut value = [0; 4];
    let from = asked.data.information_buffer.cast::<u8>();
    // SAFETY: the request says its buffer has `length` bytes, at least 4.
    unsafe { std::ptr::copy_nonoverlapping(from, value.as_mut_ptr(), 4) };
    target.store(u32::from_le_bytes(value), Ordering::SeqCst);
    asked.data.word1 = 4;
    asked.data.word2 = 0;
    STATUS_SUCCESS
}

/// One method OID: it turns the bytes of its input round.
fn method(asked: &mut OidRequest) -> Status {
    if asked.data.oid != oid::GEN_RECEIVE_SCALE_PARAMETERS {
        return STATUS_NOT_SUPPORTED;
    }
    let (input, output) = (asked.data.length, asked.data.word1);
    if output < input {
        asked.data.method_needed = input;
        return STATUS_BUFFER_TOO_SHORT;
    }
    if input > 0 {
        let at = asked.data.information_buffer.cast::<u8>();
        // SAFETY: the request says its buffer has room for `OutputBufferLength` bytes.
        let bytes = unsafe { std::slice::from_raw_parts_mut(at, input as usize) };
        bytes.reverse();
    }
    asked.data.method_read = input;
    asked.data.method_written = input;
    asked.data.method_needed = 0;
    STATUS_SUCCESS
}
