//! Runs every file of `vectors/blocks`, and the historic blocks where the chain data is present.

#[path = "vectors_blocks/announcements.rs"]
mod announcements;
#[path = "vectors_blocks/parts.rs"]
mod parts;
#[path = "vectors_blocks/values.rs"]
mod values;
#[path = "vectors_blocks/whole.rs"]
mod whole;
