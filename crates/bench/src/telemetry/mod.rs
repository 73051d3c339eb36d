//! What servers and machines tell about themselves while they are measured.

pub mod process;
