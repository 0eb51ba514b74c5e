//! How much memory a check needs: the scratch and the deepest use of the stack together.

use std::hint::black_box;
use std::thread;

use packetcrypt_core::announcement::{Announcement, CheckScratch, check};
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use packetcrypt_core::{AnnError, Hash32};
use packetcrypt_vectors::{own, unhex_array};

/// What checking one announcement may need in all: constrained devices are users.
const CHECK_BYTES_MAX: usize = 48 * 1024;

/// Stack of the measuring thread.
const STACK_BYTES: usize = 512 * 1024;
/// How much of it is painted below the measuring frame.
const PAINTED_BYTES: usize = 128 * 1024;
/// Room below the measuring frame that painting and looking use themselves.
const MARGIN_BYTES: usize = 1024;

const PAINT: u8 = 0xa5;

/// Fills the stack below `frame` with paint.
#[inline(never)]
fn paint(frame: usize) {
    for address in frame - PAINTED_BYTES..frame - MARGIN_BYTES {
        // SAFETY: the bytes belong to the unused part of this thread's stack, which is four times
        // as long as what is painted, and lie below every frame that is in use.
        unsafe { (address as *mut u8).write_volatile(PAINT) };
    }
}

/// Bytes below `frame` that were written to since they were painted, down to the deepest.
#[inline(never)]
fn deepest(frame: usize) -> usize {
    let unpainted = (frame - PAINTED_BYTES..frame - MARGIN_BYTES).find(|address| {
        // SAFETY: as for `paint`, which has initialised these bytes.
        unsafe { (*address as *const u8).read_volatile() != PAINT }
    });
    unpainted.map_or(MARGIN_BYTES, |address| frame - address)
}

/// Stack used by `run`, measured from the frame of the caller.
fn stack_of(run: impl FnOnce() + Send) -> usize {
    thread::scope(|scope| {
        let measuring = || {
            let mark = 0_u8;
            let frame = black_box(&raw const mark) as usize;
            paint(frame);
            run();
            deepest(frame)
        };
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, measuring);
        thread.expect("a thread").join().expect("no panic")
    })
}

fn valid_announcements() -> Vec<(Announcement, Hash32)> {
    let mut found = Vec::new();
    let file = own("announcements", "valid.json");
    let bytes = file.companion("bin").bytes();
    for case in file.json().as_array().expect("a list").iter().take(12) {
        let at = case["at"].as_u64().expect("an offset") as usize;
        let ann: [u8; ANNOUNCEMENT_BYTES] =
            bytes[at..at + ANNOUNCEMENT_BYTES].try_into().expect("a whole announcement");
        let parent = case["parent_block_hash"].as_str().expect("a hash");
        found.push((*Announcement::from_bytes(&ann), Hash32(unhex_array(parent))));
    }
    found
}

#[test]
fn painting_sees_what_is_used() {
    #[inline(never)]
    fn use_bytes() {
        let mut bytes = [0_u8; 40 * 1024];
        black_box(&mut bytes)[0] = 1;
    }
    let used = stack_of(use_bytes);
    assert!((40 * 1024..44 * 1024).contains(&used), "{used} bytes");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "code that is not optimised keeps copies on the stack")]
fn a_check_needs_at_most_48_kib() {
    // It can be a static: no code runs to make it.
    const _: CheckScratch = CheckScratch::new();
    let mut scratch = Box::new(CheckScratch::new());
    let announcements = valid_announcements();
    let mut stack = 0;
    for (ann, parent) in &announcements {
        let scratch = &mut scratch;
        stack = stack.max(stack_of(move || {
            assert!(check(ann, parent, scratch).is_ok());
            // Seeds of other programs, a wrong prefix, a wrong branch.
            for at in [4, 920, 1000, 100] {
                let mut bytes = *ann.to_bytes();
                bytes[at] ^= 1;
                let result = check(Announcement::from_bytes(&bytes), parent, scratch);
                assert!(matches!(result, Err(AnnError::InvalItem4 | AnnError::Inval)));
            }
        }));
    }
    let total = stack + size_of::<CheckScratch>();
    println!("stack {stack} + scratch {} = {total} bytes", size_of::<CheckScratch>());
    assert!(total <= CHECK_BYTES_MAX, "{total} bytes, at most {CHECK_BYTES_MAX} are allowed");
}
