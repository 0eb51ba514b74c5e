//! What is forced is what a process uses. A program of its own, with one test: forcing is for a whole
//! process.

use packetcrypt_core::Backend;
use packetcrypt_jit::{AnyExecutor, Executor, force, require};

#[test]
fn what_is_forced_is_used_and_what_can_not_be_had_is_an_error() {
    let widest = Backend::best();
    let compiles = AnyExecutor::best().refused().is_none();
    assert_eq!(force(None, None), Ok(()));
    assert_eq!(Backend::best(), widest);

    for missing in Backend::ALL.into_iter().filter(|backend| !backend.is_available()) {
        let error = force(None, Some(missing)).expect_err("the CPU lacks it");
        let text = error.to_string();
        assert!(text.contains(missing.name()) && text.ends_with(" soft"), "{text}");
        assert_eq!(error.asked(), ("backend", missing.name()));
        assert_eq!(Backend::best(), widest);
    }
    let soft = force(Some(Executor::Jit), Some(Backend::Soft)).expect_err("there is no compiler");
    assert_eq!(soft.asked(), ("executor", "jit"));
    assert_eq!(Backend::best(), widest, "nothing is forced by an error");
    assert_eq!(require(Some(Executor::Jit), None).is_ok(), compiles);

    for backend in Backend::available() {
        for executor in [Executor::Interpreter, Executor::Lanes] {
            force(Some(executor), Some(backend)).expect("available");
            assert_eq!((Executor::best(), Backend::best()), (executor, backend));
            let asked = AnyExecutor::wanted(None, None);
            assert_eq!(asked.to_string(), format!("{executor}, {backend}"));
        }
    }
    if compiles {
        force(Some(Executor::Jit), Some(widest)).expect("it was chosen before");
        assert_eq!(AnyExecutor::best().executor(), Executor::Jit);
    }
}
