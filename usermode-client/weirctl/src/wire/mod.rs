//! What `tcp`, `udp` and `chat` share: standard input as a feed, streams with and
//! without TLS, and the copying between them.

pub(crate) mod again;
pub(crate) mod deadline;
pub(crate) mod duplex;
pub(crate) mod feed;
pub(crate) mod place;
pub(crate) mod pump;
pub(crate) mod tls;
pub(crate) mod verify;
