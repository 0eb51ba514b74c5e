//! The vectors of primitives, CryptoCycle, items, trees and announcements, those of the main
//! network included where they are.

#[path = "vectors_announcements/checks.rs"]
mod checks;
#[path = "vectors_announcements/cryptocycle.rs"]
mod cryptocycle;
#[path = "vectors_announcements/items.rs"]
mod items;
#[path = "vectors_announcements/primitives.rs"]
mod primitives;
#[path = "vectors_announcements/traces.rs"]
mod traces;
#[path = "vectors_announcements/values.rs"]
mod values;
#[path = "vectors_announcements/whole.rs"]
mod whole;
