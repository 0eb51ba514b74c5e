//! Measurements of PacketCrypt with checked answers.
