//! What several of the end-to-end tests share.

pub mod accounts;
pub mod echo;
pub mod frames;
pub mod inf;
pub mod clients;
pub mod lab;
pub mod packet;
pub mod truth;
