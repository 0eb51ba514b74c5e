//! Affinity, priority and memory by the system calls of Linux.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd as _;

use super::CpuSet;

/// The CPUs of this thread's affinity mask.
pub(super) fn allowed_cpus() -> Option<CpuSet> {
    // SAFETY: all zeros is a valid cpu_set_t, an array of integers.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes at most the given size into `set`; 0 is the calling thread.
    let status = unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) };
    if status != 0 {
        return None;
    }
    let cpus = 0..usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: every number is below CPU_SETSIZE, the length of the set in bits.
    Some(CpuSet::new(cpus.filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })))
}

pub(super) fn pin_thread(cpu: usize) -> io::Result<()> {
    if cpu >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: all zeros is a valid cpu_set_t, an array of integers.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `cpu` is below CPU_SETSIZE, checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads the given size from `set`; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(super) fn lower_thread_priority(nice: i32) -> io::Result<()> {
    // On Linux PRIO_PROCESS with 0 means the calling thread.
    // SAFETY: a system call without pointers.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes the blocks of a file.
pub(super) fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: a system call without pointers on a descriptor that lives as long as `file`.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Sets the memory policy of whole pages; `nodes` are numbers below [`super::memory::NODES_MAX`].
pub(super) fn set_memory_policy(
    start: usize,
    bytes: usize,
    interleave: bool,
    nodes: &[usize],
) -> io::Result<()> {
    let mut mask = [0u64; super::memory::NODES_MAX / 64];
    for node in nodes {
        mask[node / 64] |= 1 << (node % 64);
    }
    let mode = if interleave { libc::MPOL_INTERLEAVE } else { libc::MPOL_BIND };
    // SAFETY: the kernel reads less than the length of `mask` in bits, which is given,
    // and changes only where pages of the range come from, never what is in them.
    let status = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            start,
            bytes,
            mode,
            mask.as_ptr(),
            super::memory::NODES_MAX as libc::c_ulong,
            0,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for huge pages for the whole pages in these bytes of the address space.
pub(super) fn advise_huge(start: usize, bytes: usize) -> io::Result<()> {
    // SAFETY: a system call without pointers.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let (start, end) = (start.next_multiple_of(page), (start + bytes) / page * page);
    if start >= end {
        return Ok(());
    }
    // SAFETY: the advice changes how large pages are, never what is in them.
    let status = unsafe {
        libc::madvise(std::ptr::without_provenance_mut(start), end - start, libc::MADV_HUGEPAGE)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
