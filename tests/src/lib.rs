//! What several of the end-to-end tests share.

pub mod accounts;
pub mod clients;
pub mod echo;
pub mod frames;
pub mod inf;
pub mod lab;
pub mod packet;
pub mod services;
pub mod truth;
