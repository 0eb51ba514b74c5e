use super::*;

#[test]
fn each_hash_is_a_candidate_once_and_known_ones_are_none() {
    let parent = Parent::sample(10);
    if let crate::dedup::Reservation::Fresh(entry) = parent.known.reserve(7) {
        parent.known.commit(entry);
    }
    let hashes = vec![(0, 9), (1, 7), (2, 5), (3, 9), (4, 5), (5, 6)];
    assert_eq!(candidates(hashes, &parent), [(0, 9), (2, 5), (5, 6)]);
}

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

#[test]
fn event_ids_are_those_of_each_body_alone() {
    let body = |len: usize, seed: u8| (0..len).map(|i| seed ^ (i % 251) as u8).collect::<Vec<u8>>();
    let full = FULL_POST_BYTES;
    let bodies = [full, 1024, full, full, full - 1024, full, full, 2048]
        .into_iter()
        .zip(1..)
        .map(|(len, seed)| body(len, seed))
        .collect::<Vec<_>>();
    for backend in Backend::available() {
        let ids = event_ids(bodies.iter().map(Vec::as_slice), backend);
        for (id, body) in ids.iter().zip(&bodies) {
            assert_eq!(*id, compress32(body).0[..16], "{backend}");
        }
        assert_eq!(ids.len(), bodies.len());
    }
}
