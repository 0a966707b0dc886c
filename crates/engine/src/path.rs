//! The way of one frame: dissected, tracked, decided on. One function, for the
//! kernel and for files.
