//! Announcement handler.
