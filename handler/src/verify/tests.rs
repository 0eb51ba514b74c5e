use super::*;

#[test]
fn names_of_proof_errors_are_those_of_the_reference() {
    let text = |error| proof_refusal(error).to_string();
    assert_eq!(text(AnnError::InvalItem4), "check_ann() -> INVAL_ITEM4");
    assert_eq!(text(AnnError::InsufPow(Hash32::ZERO)), "check_ann() -> INSUF_POW");
    assert_eq!(text(AnnError::SoftNonceHigh), "check_ann() -> SOFT_NONCE_HIGH");
    for error in [AnnError::Inval, AnnError::BadProgram, AnnError::BadProgramExec] {
        assert_eq!(text(error), "check_ann() -> INVAL");
    }
}
