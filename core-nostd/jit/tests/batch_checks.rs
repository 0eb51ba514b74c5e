//! A batch gives what single checks give, whatever is in it, in any order, on every back end
//! and executor.

use packetcrypt_core::announcement::{
    Announcement, BatchScratch, CheckScratch, Limits, check, check_batch,
};
use packetcrypt_core::params::{ANNOUNCEMENT_BYTES, INSNS_MAX, OPS_MAX};
use packetcrypt_core::randhash::{Execute, Interpreter, LanesInterpreter};
use packetcrypt_core::{AnnError, Backend, Hash32};
use packetcrypt_jit::Jit;
use packetcrypt_vectors::own;

type Checked = Result<Hash32, AnnError>;

/// Every announcement of the vectors, good and bad.
fn announcements() -> Vec<(Announcement, Hash32)> {
    let mut all = Vec::new();
    for name in ["valid.json", "invalid.json"] {
        let file = own("announcements", name);
        let bin = file.companion("bin").bytes();
        for case in file.json().as_array().expect("a list") {
            let at = case["at"].as_u64().expect("an offset") as usize;
            let bytes = bin[at..at + ANNOUNCEMENT_BYTES].try_into().expect("an announcement");
            let parent = Hash32::from_hex(case["parent_block_hash"].as_str().expect("a hash"));
            all.push((*Announcement::from_bytes(bytes), parent.expect("a hash")));
        }
    }
    assert!(all.len() > 100, "vectors are there");
    all
}

/// What each of them is alone.
fn alone(all: &[(Announcement, Hash32)], limits: Limits) -> Vec<Checked> {
    let mut scratch = Box::new(CheckScratch::with_limits(limits));
    all.iter().map(|(ann, parent)| check(ann, parent, &mut scratch)).collect()
}

/// Everything that runs programs on a back end, with a limit of executed words.
fn executors(backend: Backend, ops_max: u32) -> Vec<(&'static str, Box<dyn Execute>)> {
    let mut all: Vec<(&'static str, Box<dyn Execute>)> = vec![
        ("interpreter", Box::new(Interpreter::with_limit(ops_max))),
        ("lanes", Box::new(LanesInterpreter::with_limit(backend, ops_max))),
    ];
    if let Ok(jit) = Jit::with_limit(backend, ops_max) {
        all.push(("jit", Box::new(jit)));
    }
    all
}

/// Numbers below `bound` without a pattern.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn any_mixture_in_any_order() {
    let all = announcements();
    let wanted = alone(&all, Limits::CONSENSUS);
    assert!(wanted.iter().any(Result::is_ok) && wanted.iter().any(Result::is_err));
    let mut numbers = Numbers(1);
    for backend in Backend::available() {
        // One scratch for all batches: what it keeps must not matter.
        let mut scratch = Box::new(BatchScratch::new());
        let mut executors = executors(backend, OPS_MAX);
        let count = executors.len();
        for (turn, len) in [0, 1, 2, 17, 65, 300, 300, 1, 40, 65, 17, 90].into_iter().enumerate() {
            let (name, exec) = &mut executors[turn % count];
            // With repetitions, so that there are jobs with many announcements.
            let pick: Vec<usize> = (0..len).map(|_| numbers.below(all.len())).collect();
            let batch: Vec<_> = pick.iter().map(|at| (&all[*at].0, &all[*at].1)).collect();
            let mut results = vec![Err(AnnError::Inval); len];
            check_batch(&batch, &mut results, &mut scratch, &mut **exec, backend);
            for (at, result) in pick.iter().zip(results) {
                let which = format!("{name} on {backend}, record {at} in a batch of {len}");
                assert_eq!(result, wanted[*at], "{which}");
            }
        }
    }
}

/// Many announcements of one job: those that differ in the soft nonce alone.
#[test]
fn a_job_with_more_announcements_than_lanes() {
    let (good, parent) = announcements()[0];
    let mut scratch = Box::new(CheckScratch::new());
    let with_nonce = |nonce: usize| {
        let mut bytes = *good.to_bytes();
        bytes[1..3].copy_from_slice(&(nonce as u16).to_le_bytes());
        *Announcement::from_bytes(&bytes)
    };
    let mut anns: Vec<_> = (0..130).map(with_nonce).collect();
    anns[71] = good;
    let wanted: Vec<_> = anns.iter().map(|ann| check(ann, &parent, &mut scratch)).collect();
    assert!(wanted[71].is_ok());
    let batch: Vec<_> = anns.iter().map(|ann| (ann, &parent)).collect();
    for backend in Backend::available() {
        for (name, mut exec) in executors(backend, OPS_MAX) {
            let mut results = vec![Err(AnnError::Inval); batch.len()];
            let mut scratch = Box::new(BatchScratch::new());
            check_batch(&batch, &mut results, &mut scratch, &mut *exec, backend);
            assert_eq!(results, wanted, "{name} on {backend}");
        }
    }
}

/// Programs that can not be made or run, which no known announcement has.
#[test]
fn programs_at_their_limits() {
    let all = announcements();
    for limits in [
        Limits { insns_max: 250, ops_max: OPS_MAX },
        Limits { insns_max: 120, ops_max: OPS_MAX },
        Limits { insns_max: INSNS_MAX, ops_max: 3000 },
        Limits { insns_max: 300, ops_max: 4000 },
    ] {
        let wanted = alone(&all, limits);
        let failure =
            if limits.ops_max == OPS_MAX { AnnError::BadProgram } else { AnnError::BadProgramExec };
        assert!(wanted.contains(&Err(failure)), "{limits:?}");
        let batch: Vec<_> = all.iter().map(|(ann, parent)| (ann, parent)).collect();
        for backend in Backend::available() {
            for (name, mut exec) in executors(backend, limits.ops_max) {
                let mut results = vec![Err(AnnError::Inval); batch.len()];
                let mut scratch = Box::new(BatchScratch::with_insns_max(limits.insns_max));
                check_batch(&batch, &mut results, &mut scratch, &mut *exec, backend);
                assert_eq!(results, wanted, "{name} on {backend} {limits:?}");
            }
        }
    }
}
