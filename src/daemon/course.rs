//! What an environment does next, decided without any I/O from what is seen and how the last attempts ended.
//!
//! Two things are kept apart: the *head*, which goes through the gates, and the *target*, which passed them and is restored. Each has its own back-off, so
//! that neither's end makes the other forgotten.

use std::time::{Duration, Instant};

use crate::model::{CommitId, Failure, Stage};

/// The first pause after a failure that may pass by itself; it doubles up to the longest, or the resync period if that is shorter.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest: whoever was away is noticed within a minute, however long it was.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// So often the pause doubles while what a commit needs has not come up yet: nobody tells when it does.
const AWAITED: u32 = 2;

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// Through the gates, and if it passes, to the cluster.
    Commit(CommitId),
    /// Object by object: it passed the gates before, or there is nothing yet to protect.
    Restore(CommitId),
    /// The target again, object by object, with everything that is remembered of it forgotten.
    Resync(CommitId),
    /// Objects of the target changed in the cluster: what drifted is told, and put back unless that is not wanted.
    Heal,
    /// Tell that the newest definition, of this commit of the configuration branch, is not valid.
    Broken(CommitId),
    /// As a resync, and nothing is written: the environment is suspended.
    Look(CommitId),
    /// Tell that the environment is suspended at this head, and its neighbours what it asks for.
    Suspended(CommitId),
}

/// Why the target is looked at although nothing changed.
enum Due {
    /// It is time for a resync.
    Resync,
    /// Something of it failed, and may succeed now.
    Retry,
}

/// What is seen at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The time.
    pub(super) now: Instant,
    /// The head of the branch; `None`: there is no such branch.
    pub(super) head: Option<CommitId>,
    /// The commit whose definition is not valid; the one before is in force.
    pub(super) broken: Option<CommitId>,
    /// The definition says so.
    pub(super) suspended: bool,
    /// The commit whose deletions somebody approved.
    pub(super) approved: Option<CommitId>,
    /// How often the other environments changed what they ask for.
    pub(super) peers: u64,
    /// Objects changed that nobody has looked at yet.
    pub(super) drift: bool,
}

/// One environment's course.
#[derive(Debug)]
pub(super) struct Course {
    resync: Duration,
    /// The head that last went through the gates under this definition, well or not.
    tried: Option<CommitId>,
    /// The plan refused it, when the others asked for what they did at this count.
    refused_beside: Option<u64>,
    /// The commit that last passed the gates: what is restored.
    target: Option<CommitId>,
    /// It passed them under the definition that is in force.
    holds: bool,
    /// Nothing went through the gates in this life, and the definition is the one that was found.
    fresh: bool,
    head_retry: Retry,
    target_retry: Retry,
    /// What a suspended head asks for could not be found out.
    claim_retry: Retry,
    /// Everything was applied anew, or plumb started.
    resynced: Instant,
    /// Around 1: by how much the next resync is earlier or later than the definition says.
    spread: f64,
    told_broken: Option<CommitId>,
    told_suspended: Option<CommitId>,
    approved: Option<CommitId>,
}

/// A timer that is consumed as it fires.
#[derive(Debug, Default)]
struct Retry {
    at: Option<Instant>,
    attempts: u32,
}

impl Retry {
    fn back_off(&mut self, now: Instant, longest: Duration, jitter: f64) {
        let pause = FIRST_RETRY.saturating_mul(1 << self.attempts.min(20)).min(longest).min(LONGEST_RETRY);
        self.attempts = self.attempts.saturating_add(1);
        self.at = Some(now + pause.mul_f64(jitter));
    }

    /// The same for what may come at any moment.
    fn wait(&mut self, now: Instant, longest: Duration, jitter: f64) {
        self.attempts = self.attempts.min(AWAITED);
        self.back_off(now, longest, jitter);
    }

    fn fires(&mut self, now: Instant) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }
}

impl Course {
    /// At the start of plumb. `jitter` is around 1, here and below: it spreads environments out.
    pub(super) fn new(resync: Duration, now: Instant, jitter: f64) -> Self {
        Self {
            resync,
            tried: None,
            refused_beside: None,
            target: None,
            holds: false,
            fresh: true,
            head_retry: Retry::default(),
            target_retry: Retry::default(),
            claim_retry: Retry::default(),
            resynced: now,
            spread: jitter,
            told_broken: None,
            told_suspended: None,
            approved: None,
        }
    }

    /// The head that last went through the gates.
    pub(super) fn tried(&self) -> Option<CommitId> {
        self.tried
    }

    /// What drift and restarts restore.
    pub(super) fn target(&self) -> Option<CommitId> {
        self.target
    }

    /// The target that an earlier life left in the status, and whether it passed its gates under the definition that is in force.
    pub(super) fn inherit(&mut self, target: Option<CommitId>, holds: bool) {
        (self.target, self.holds) = (target, holds);
    }

    /// Whether the target passed its gates under the definition that is in force.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// The definition changed: the head goes through the gates anew, and another resync period counts from the last resync.
    pub(super) fn redefined(&mut self, resync: Duration) {
        (self.resync, self.tried, self.fresh, self.holds) = (resync, None, false, false);
        self.head_retry = Retry::default();
        // Suspended still, it may ask for something else.
        if self.told_suspended.take().is_some() {
            self.target_retry = Retry::default();
        }
    }

    /// Decides. What it returns is taken as begun.
    pub(super) fn next(&mut self, seen: &Seen, jitter: f64) -> Option<Job> {
        if let Some(broken) = seen.broken.filter(|broken| self.told_broken != Some(*broken)) {
            self.told_broken = Some(broken);
            return Some(Job::Broken(broken));
        }
        if seen.broken.is_none() && self.told_broken.take().is_some() {
            self.tried = None; // It was repaired: how the head stands has to be told again.
        }
        if seen.head.is_none() {
            (self.told_suspended, self.claim_retry) = (None, Retry::default());
        }
        if seen.suspended {
            let job = seen.head.and_then(|head| self.suspended(head, seen.now)).or(seen.drift.then_some(Job::Heal));
            return job.or_else(|| self.due(seen.now, jitter).and(self.target).map(Job::Look));
        }
        if self.told_suspended.take().is_some() {
            self.target_retry = Retry::default();
        }
        let job = match seen.head {
            Some(head) => self.for_head(head, seen),
            None => {
                // Whatever its head is when the branch comes back, it goes through the gates.
                (self.tried, self.head_retry) = (None, Retry::default());
                // A start without the branch: what stood before is restored.
                if std::mem::take(&mut self.fresh) {
                    self.restore_now(seen.now);
                }
                None
            }
        };
        job.or(seen.drift.then_some(Job::Heal)).or_else(|| self.of_target(seen.now, jitter))
    }

    fn suspended(&mut self, head: CommitId, now: Instant) -> Option<Job> {
        (self.tried, self.head_retry) = (None, Retry::default());
        self.fresh = false;
        let news = self.told_suspended.replace(head) != Some(head);
        if news {
            (self.target_retry, self.claim_retry) = (Retry::default(), Retry::default());
        }
        (news || self.claim_retry.fires(now)).then_some(Job::Suspended(head))
    }

    fn for_head(&mut self, head: CommitId, seen: &Seen) -> Option<Job> {
        let approval = seen.approved == Some(head) && self.approved != seen.approved;
        self.approved = seen.approved;
        let new = self.tried != Some(head);
        let freed = self.refused_beside.is_some_and(|count| count != seen.peers);
        if !(new || approval || freed || self.head_retry.fires(seen.now)) {
            return None;
        }
        if new {
            self.head_retry = Retry::default();
        }
        let fresh = std::mem::take(&mut self.fresh);
        (self.tried, self.refused_beside) = (Some(head), None);
        // A first sync has nothing to protect. What has passed its gates, in this life or an earlier one, and is only tried again, has nothing to prove.
        let begins = fresh && self.target.is_none();
        let again = (fresh || !new) && self.holds && self.target == Some(head);
        Some(if begins || again { Job::Restore(head) } else { Job::Commit(head) })
    }

    /// Whether this head has had its end, and nothing is tried again by itself.
    pub(super) fn is_settled(&self, head: Option<CommitId>, suspended: bool) -> bool {
        let tried = if suspended { self.told_suspended } else { self.tried };
        let retries = [&self.head_retry, &self.target_retry];
        head.is_none() || tried == head && (suspended || retries.iter().all(|retry| retry.at.is_none()))
    }

    fn resync_at(&self) -> Instant {
        self.resynced + self.resync.mul_f64(self.spread)
    }

    fn due(&mut self, now: Instant, jitter: f64) -> Option<Due> {
        let retry = self.target_retry.fires(now);
        if self.resync_at() <= now {
            (self.resynced, self.spread) = (now, jitter);
            return Some(Due::Resync);
        }
        retry.then_some(Due::Retry)
    }

    /// What the target needs in its time. Under a definition that it has not passed its gates with, it is a commit like any other: nothing of it is written
    /// but through them, and if it is not the head any more, nothing at all.
    fn of_target(&mut self, now: Instant, jitter: f64) -> Option<Job> {
        let (due, target) = (self.due(now, jitter)?, self.target?);
        match due {
            _ if !self.holds => (self.tried == Some(target)).then_some(Job::Commit(target)),
            Due::Resync => Some(Job::Resync(target)),
            Due::Retry => Some(Job::Restore(target)),
        }
    }

    /// When [`Self::next`] has to be asked again even if nothing else is seen; never a moment that it has been asked about.
    pub(super) fn wake_at(&self, suspended: bool) -> Option<Instant> {
        let head = if suspended { &self.claim_retry } else { &self.head_retry };
        [head.at, self.target_retry.at, Some(self.resync_at())].into_iter().flatten().min()
    }

    /// That the newest definition is not valid was told last of all; or something else was told since, and it is to be told again.
    pub(super) fn broken_is_told(&mut self, told: Option<CommitId>) {
        self.told_broken = told;
    }

    /// The target could not be looked at, or not all of it, and nothing of it is written.
    pub(super) fn not_seen(&mut self, now: Instant, jitter: f64) {
        self.target_retry.back_off(now, self.resync, jitter);
    }

    /// What a suspended head asks for could not be found out. If only for now, its neighbours delete nothing that it might ask for.
    pub(super) fn not_claimed(&mut self, failure: &Failure, now: Instant, jitter: f64) {
        if failure.transient {
            self.claim_retry.back_off(now, self.resync, jitter);
        }
    }

    /// A head went to the gates beside an older commit's writes.
    pub(super) fn trying(&mut self, head: CommitId) {
        (self.tried, self.refused_beside, self.fresh) = (Some(head), None, false);
        self.head_retry = Retry::default();
    }

    /// The head did not get its answer after all: it goes through the gates in its turn.
    pub(super) fn forget_try(&mut self, head: CommitId) {
        self.tried.take_if(|tried| *tried == head);
    }

    /// A commit was refused before anything of it was written. `peers` is the count that it was planned beside.
    pub(super) fn refused(&mut self, commit: CommitId, failure: &Failure, peers: u64, now: Instant, jitter: f64) {
        let retry = if self.tried == Some(commit) { &mut self.head_retry } else { &mut self.target_retry };
        if failure.awaited {
            retry.wait(now, self.resync, jitter);
        } else if failure.transient {
            retry.back_off(now, self.resync, jitter);
        }
        if self.tried == Some(commit) && failure.stage == Stage::Plan {
            self.refused_beside = Some(peers);
        }
    }

    /// A commit passed the gates: from now on it is what is restored.
    pub(super) fn passed(&mut self, commit: CommitId) {
        if self.target != Some(commit) {
            (self.target, self.target_retry) = (Some(commit), Retry::default());
        }
        self.holds = true;
        self.target_retry.at = None;
        if self.tried == Some(commit) {
            self.head_retry = Retry::default();
        }
    }

    /// The writes of the target ended, with this failure if there was one. `peers` is the count that it was planned beside.
    pub(super) fn written(&mut self, failure: Option<&Failure>, peers: u64, now: Instant, jitter: f64) {
        if failure.is_some_and(|failure| failure.transient) {
            self.target_retry.back_off(now, self.resync, jitter);
        } else {
            self.target_retry = Retry::default();
        }
        if self.tried == self.target && failure.is_some_and(|failure| failure.stage == Stage::Plan) {
            self.refused_beside = Some(peers);
        }
    }

    /// What the target's failed writes waited for may have come: they need not wait for their time.
    pub(super) fn retry_now(&mut self, now: Instant) {
        self.target_retry.at = self.target_retry.at.map(|at| at.min(now));
    }

    /// The target does not stand and nothing else will bring it: a start on a bad head, or a commit that was stopped for one that was then refused.
    pub(super) fn restore_now(&mut self, now: Instant) {
        self.target_retry.at = self.target.map(|_| now);
    }
}

#[cfg(test)]
mod tests;
