//! Systems without affinity and thread priority: the wishes are accepted and change nothing.

use std::fs::File;
use std::io;

use super::CpuSet;

pub(super) fn allowed_cpus() -> Option<CpuSet> {
    None
}

pub(super) fn pin_thread(_cpu: usize) -> io::Result<()> {
    Ok(())
}

pub(super) fn lower_thread_priority(_nice: i32) -> io::Result<()> {
    Ok(())
}

pub(super) fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

pub(super) fn set_memory_policy(
    _start: usize,
    _bytes: usize,
    _interleave: bool,
    _nodes: &[usize],
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn advise_huge(_start: usize, _bytes: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
