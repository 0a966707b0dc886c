//! Rule programs: verified, run, looked up.

mod assemble;
mod decide;
mod frames;
mod libpcap;
mod machine;
mod verify;
