//! Rule programs: verified, run, looked up.

mod assemble;
mod decide;
mod frames;
mod machine;
mod verify;
