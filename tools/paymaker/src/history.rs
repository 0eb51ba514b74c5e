//! What the paymaker remembers: blocks, shares, announcement slots (spec 05, 12.3 and 12.4).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::tz::TimeZone;
use packetcrypt_proto::{address, compact};
use serde::Serialize;

use crate::event::{self, AHEAD_MS_MAX, Anns, Event, Kind, Share};
use crate::hours::Hours;
use crate::slots::{Entry, Inserted, Ordered, Slots};

/// Hashes of difficulty 1.
const HASHES_OF_DIFFICULTY_1: f64 = 4096.0;
/// Greatest target that gives credit to announcements.
const ANN_TARGET_MAX: f64 = 0x207f_ffff as f64;

/// The rules of credit and memory.
#[derive(Clone, Debug)]
pub struct HistoryRules {
    /// How long events are remembered, ms before the newest.
    pub depth_ms: f64,
    /// Length of an announcement slot, ms.
    pub timespan_ms: f64,
    /// How many slots know their event ids.
    pub slots_to_keep_events: f64,
    /// Whether the pool signs announcements: unsigned ones are not paid then.
    pub is_signing: bool,
    /// Slots as the reference makes them, with its double credit (spec 05, 16.4).
    pub reference_slots: bool,
    /// Hour counters as the reference keeps them: a block counts once for each block handler, and
    /// again with each repeated log (spec 05, 16.19).
    pub reference_hours: bool,
    /// Zone of the hour counters.
    pub zone: TimeZone,
}

/// A credited share.
#[derive(Clone, Debug)]
pub struct CreditedShare {
    /// Who is paid.
    pub pay_to: Arc<str>,
    /// Credit.
    pub credit: f64,
    /// Expected hashes, for the statistics.
    pub encryptions: f64,
}

/// What became of the lines of posted logs: each adds 1 to `received` and to exactly one of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventCounts {
    /// All lines that are not blank.
    pub received: u64,
    /// Shares credited.
    pub shares: u64,
    /// Announcement posts credited.
    pub anns: u64,
    /// Blocks entered.
    pub blocks: u64,
    /// Events that were known.
    pub duplicates: u64,
    /// Announcement posts that came too late to tell whether they are known.
    pub lost: u64,
    /// Events older than the history.
    pub old: u64,
    /// Events too far in the future.
    pub ahead: u64,
    /// Shares and announcement posts for an invalid address.
    pub invalid_pay_to: u64,
    /// Events of an unknown kind.
    pub unknown: u64,
    /// Lines that are no event.
    pub malformed: u64,
}

type Tree<T> = BTreeMap<(Ordered, Arc<str>), T>;

/// The memory.
#[derive(Clone, Debug)]
pub struct History {
    rules: HistoryRules,
    blocks: Tree<f64>,
    block_ids: HashSet<Arc<str>>,
    shares: Tree<CreditedShare>,
    share_ids: HashSet<Arc<str>>,
    pub(crate) slots: Slots,
    pub(crate) hours: Hours,
    pub(crate) last_won: Option<(String, f64)>,
    newest_ms: f64,
    counts: EventCounts,
}

impl History {
    /// An empty memory.
    #[must_use]
    pub fn new(rules: HistoryRules) -> Self {
        let slots =
            Slots::new(rules.timespan_ms, rules.slots_to_keep_events, rules.reference_slots);
        let hours = Hours::new(rules.zone.clone(), rules.reference_hours);
        Self {
            rules,
            blocks: Tree::new(),
            block_ids: HashSet::new(),
            shares: Tree::new(),
            share_ids: HashSet::new(),
            slots,
            hours,
            last_won: None,
            newest_ms: 0.0,
            counts: EventCounts::default(),
        }
    }

    /// The rules it was made with.
    #[must_use]
    pub fn rules(&self) -> &HistoryRules {
        &self.rules
    }

    /// Time of the most recent event known, ms; 0 at first.
    #[must_use]
    pub fn newest_ms(&self) -> f64 {
        self.newest_ms
    }

    /// Sets the time of the most recent event, at a restart.
    pub fn set_newest_ms(&mut self, newest_ms: f64) {
        self.newest_ms = newest_ms;
    }

    /// What became of the lines so far.
    #[must_use]
    pub fn counts(&self) -> EventCounts {
        self.counts
    }

    /// Sets the counts back to what they were before a log that must not be counted.
    pub fn set_counts(&mut self, counts: EventCounts) {
        self.counts = counts;
    }

    /// Blocks, slots and shares that are remembered.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.blocks.len(), self.slots.len(), self.shares.len())
    }

    /// Shares, newest first, with their times.
    pub fn shares_newest_first(&self) -> impl Iterator<Item = (f64, &CreditedShare)> {
        self.shares.iter().rev().map(|((time, _), share)| (time.0, share))
    }

    /// Takes a whole log: its lines, then the new newest time, then garbage (spec 05, 12.2 step 5).
    pub fn take_log(&mut self, log: &str, newest_ms: f64, now_ms: f64) {
        self.take_lines(log, now_ms);
        self.newest_ms = self.newest_ms.max(newest_ms);
        self.collect_garbage();
    }

    /// Takes the lines of a log. `now_ms` is the clock when the log arrived.
    pub fn take_lines(&mut self, log: &str, now_ms: f64) {
        for line in log.split('\n').filter(|line| !line.trim().is_empty()) {
            self.counts.received += 1;
            match event::parse(line) {
                None => self.counts.malformed += 1,
                Some(event) if event.time > now_ms + AHEAD_MS_MAX => self.counts.ahead += 1,
                Some(event) if event.time < self.expiry() => self.counts.old += 1,
                Some(event) => self.take(event),
            }
        }
    }

    fn expiry(&self) -> f64 {
        self.newest_ms - self.rules.depth_ms
    }

    fn take(&mut self, event: Event) {
        let Event { id, time, kind } = event;
        match kind {
            Kind::Share(share) => self.take_share(id, time, share),
            Kind::Anns(anns) => self.take_anns(&id, time, &anns),
            Kind::Block { difficulty, hash } => {
                self.hours.count_block(time, hash.as_deref().unwrap_or(&id));
                if self.block_ids.insert(id.clone()) {
                    self.blocks.insert((Ordered(time), id), difficulty);
                    self.counts.blocks += 1;
                } else {
                    self.counts.duplicates += 1;
                }
            }
            Kind::Unknown => self.counts.unknown += 1,
        }
    }

    /// Hashes of the latest block strictly before `time`; -1 when none is known.
    fn hashes_at(&self, time: f64) -> f64 {
        let before = self.blocks.range(..(Ordered(time), Arc::from("")));
        before.last().map_or(-1.0, |(_, difficulty)| difficulty * HASHES_OF_DIFFICULTY_1)
    }

    fn take_share(&mut self, id: Arc<str>, time: f64, share: Share) {
        if !address::is_valid_pay_to(&share.pay_to) {
            self.counts.invalid_pay_to += 1;
        } else if !self.share_ids.insert(id.clone()) {
            self.counts.duplicates += 1;
        } else {
            let hashes = self.hashes_at(time);
            let work = compact::work_multiple(event::compact_of(share.target));
            let credit = if hashes < 1.0 { 0.0 } else { work / hashes };
            let pay_to = share.pay_to.into();
            let credited = CreditedShare { pay_to, credit, encryptions: share.encryptions };
            self.shares.insert((Ordered(time), id), credited);
            self.counts.shares += 1;
        }
        if let Some(hash) = share.header_hash
            && self.hours.count_win(time, &hash)
        {
            self.last_won = Some((hash, time));
        }
    }

    fn take_anns(&mut self, id: &Arc<str>, time: f64, anns: &Anns) {
        if !address::is_valid_pay_to(&anns.pay_to) {
            self.counts.invalid_pay_to += 1;
            return;
        }
        let hashes = self.hashes_at(time);
        let multiple = compact::work_multiple(event::compact_of(anns.target));
        let mut payable = anns.accepted;
        if self.rules.is_signing {
            payable = (payable - anns.unsigned).max(0.0);
        }
        let work = if anns.target > ANN_TARGET_MAX {
            0.0
        } else {
            // The shift of a signed 32-bit word, as JavaScript does it.
            let contents = f64::from(event::to_uint32(anns.total_len).cast_signed() >> 14);
            multiple * (payable - contents).max(0.0)
        };
        let entry = Entry {
            credit: if hashes < 1.0 { 0.0 } else { work / hashes },
            encryptions: multiple * HASHES_OF_DIFFICULTY_1 * anns.accepted,
            accepted: anns.accepted,
        };
        match self.slots.insert(time, id, &anns.pay_to, entry) {
            Inserted::Added => self.counts.anns += 1,
            Inserted::Duplicate => self.counts.duplicates += 1,
            Inserted::Lost => self.counts.lost += 1,
        }
    }

    /// Forgets what is older than the history (spec 05, 12.4).
    pub fn collect_garbage(&mut self) {
        let expiry = self.expiry();
        expire(&mut self.blocks, &mut self.block_ids, expiry);
        expire(&mut self.shares, &mut self.share_ids, expiry);
        self.slots.collect_garbage(expiry);
        self.hours.collect_garbage(expiry);
    }
}

fn expire<T>(tree: &mut Tree<T>, ids: &mut HashSet<Arc<str>>, expiry: f64) {
    let kept = tree.split_off(&(Ordered(expiry), Arc::from("")));
    for ((_, id), _) in std::mem::replace(tree, kept) {
        ids.remove(&id);
    }
}
