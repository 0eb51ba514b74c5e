//! A static program without std, allocator and libc that checks an announcement and a block with the
//! core, and exits with 0 when every answer is right. As soon as one of the three creeps into the
//! core this does not link. Built and run by `run.sh`.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

use packetcrypt_core::announcement::{self, Announcement};
use packetcrypt_core::block::{
    BlockKind, CheckScratch, ParentHash, ShareCheck, ShareError, validate_share,
};
use packetcrypt_core::{CompactTarget, Hash32};

static ANNOUNCEMENT: &[u8; 1024] = include_bytes!("../data/announcement.bin");
static ANNOUNCEMENT_PARENT: &[u8; 32] = include_bytes!("../data/announcement_parent.bin");
static ANNOUNCEMENT_WORK: &[u8; 32] = include_bytes!("../data/announcement_work_hash.bin");
static BLOCK: &[u8] = include_bytes!("../data/block.bin");
static BLOCK_COINBASE: &[u8] = include_bytes!("../data/block_coinbase.bin");
static BLOCK_BRANCH: &[u8] = include_bytes!("../data/block_branch.bin");
static BLOCK_PARENTS: &[u8; 128] = include_bytes!("../data/block_parents.bin");
static BLOCK_WORK: &[u8; 32] = include_bytes!("../data/block_work_hash.bin");
const BLOCK_HEIGHT: u32 = 300_000;
const BRANCH_LEN_MAX: usize = 16;

const EXIT_OK: i32 = 0;
const EXIT_ANNOUNCEMENT: i32 = 1;
const EXIT_ALTERED_ANNOUNCEMENT: i32 = 2;
const EXIT_BLOCK: i32 = 3;
const EXIT_ALTERED_BLOCK: i32 = 4;
const EXIT_PANIC: i32 = 101;

// The stack pointer is a multiple of 16 at the start of a process; a call makes it what the ABI
// wants at a function's start.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start,
);

extern "C" fn start() -> ! {
    exit(checks().err().unwrap_or(EXIT_OK))
}

fn checks() -> Result<(), i32> {
    announcement_checks()?;
    block_checks()
}

fn announcement_checks() -> Result<(), i32> {
    let mut scratch = announcement::CheckScratch::new();
    let parent = Hash32(*ANNOUNCEMENT_PARENT);
    let good = announcement::check(Announcement::from_bytes(ANNOUNCEMENT), &parent, &mut scratch);
    if good != Ok(Hash32(*ANNOUNCEMENT_WORK)) {
        return Err(EXIT_ANNOUNCEMENT);
    }
    let mut altered = *ANNOUNCEMENT;
    altered[500] ^= 1;
    match announcement::check(Announcement::from_bytes(&altered), &parent, &mut scratch) {
        Ok(_) => Err(EXIT_ALTERED_ANNOUNCEMENT),
        Err(_) => Ok(()),
    }
}

fn block_checks() -> Result<(), i32> {
    let mut scratch = CheckScratch::new();
    let valid = validated(BLOCK, &mut scratch).map_err(|_| EXIT_BLOCK)?;
    if valid != (BlockKind::Block, Hash32(*BLOCK_WORK)) {
        return Err(EXIT_BLOCK);
    }
    let mut altered = [0; 16384];
    let altered = altered.get_mut(..BLOCK.len()).ok_or(EXIT_ALTERED_BLOCK)?;
    altered.copy_from_slice(BLOCK);
    // The low nonce.
    altered[84] ^= 1;
    match validated(altered, &mut scratch) {
        Ok(_) => Err(EXIT_ALTERED_BLOCK),
        Err(_) => Ok(()),
    }
}

fn validated(block: &[u8], scratch: &mut CheckScratch) -> Result<(BlockKind, Hash32), ShareError> {
    let (elements, _) = BLOCK_BRANCH.as_chunks::<32>();
    let mut branch = [Hash32::ZERO; BRANCH_LEN_MAX];
    for (hash, element) in branch.iter_mut().zip(elements) {
        *hash = Hash32(*element);
    }
    let share = ShareCheck {
        block,
        coinbase: BLOCK_COINBASE,
        merkle_branch: &branch[..elements.len().min(BRANCH_LEN_MAX)],
        height: BLOCK_HEIGHT,
        share_target: CompactTarget(0),
        check_signatures: true,
    };
    let mut parents = BLOCK_PARENTS.as_chunks::<32>().0.iter();
    let parent_at =
        |_| parents.next().map_or(ParentHash::Unknown, |p| ParentHash::Known(Hash32(*p)));
    validate_share(&share, parent_at, scratch).map(|valid| (valid.kind, valid.work_hash))
}

fn exit(code: i32) -> ! {
    // SAFETY: the system call `exit_group` takes one number and does not return.
    unsafe { asm!("syscall", in("rax") 231, in("edi") code, options(noreturn)) }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(EXIT_PANIC)
}

/// The prebuilt `core` refers to it; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// # Safety
/// As `memcpy` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller promises `len` bytes at both; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _)
    };
    to
}

/// # Safety
/// As `memmove` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: copying upwards reads each byte before it is written over.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: as above, downwards from the last byte; the direction flag is cleared again.
    unsafe {
        asm!(
            "std", "rep movsb", "cld",
            inout("rcx") len => _,
            inout("rdi") to.wrapping_add(len).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(len).wrapping_sub(1) => _,
        );
    }
    to
}

/// # Safety
/// As `memset` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller promises `len` bytes at `to`.
    unsafe { asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8) };
    to
}

/// # Safety
/// As `memcmp` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: the caller promises `len` bytes at both. Volatile, so that the compiler does not
        // make a call of `memcmp` out of the loop.
        let (left, right) =
            unsafe { (left.add(at).read_volatile(), right.add(at).read_volatile()) };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

/// # Safety
/// As `bcmp` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: the same promise.
    unsafe { memcmp(left, right, len) }
}
