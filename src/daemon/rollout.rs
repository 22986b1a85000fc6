//! The health of one environment over time, decided without any I/O: when a rollout is done, when it has failed, what is told of it and when.
//!
//! Nothing waits here. Whoever sees the objects change says so ([`Rollout::saw`]), and asks what is to be done ([`Rollout::next`]).

use std::time::{Duration, Instant};

use crate::health::environment::{Finding, Summary, Verdict, Word};
use crate::model::{CommitId, ObjectKey};

/// While a rollout moves, people are told at most this often.
const PACE: Duration = Duration::from_secs(1);
/// What could not be told is tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);
/// Objects that have said the same for so long while they are waited for are looked into.
const STALLED: Duration = Duration::from_secs(20);
/// From one look into objects to the next.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);
/// A failure waits no longer than this for a look to end.
const LONGEST_LOOK: Duration = Duration::from_secs(20);

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Find out what is behind the state of these objects, and say it to [`Rollout::looked`].
    Look(Subject),
    /// Tell people, and say whether it went well: [`Rollout::told`], [`Rollout::untold`].
    Tell(Telling),
}

/// The objects that are looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// They have failed; otherwise they only take long.
    failed: bool,
    /// The objects.
    pub(super) keys: Vec<ObjectKey>,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Telling {
    /// The commit that was deployed last.
    pub(super) commit: CommitId,
    /// How the environment stands.
    pub(super) word: Word,
    /// The object it is about, unless all is well.
    pub(super) object: Option<ObjectKey>,
    /// It has become healthy after it was waited for, or it has failed: worth a line and an Event.
    pub(super) turned: bool,
    /// Since the commit was deployed or, healthy since, the environment ceased to be.
    pub(super) took: Duration,
    /// How the rollout of this commit ended, if it did now.
    pub(super) ended: Option<End>,
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The environment became healthy.
    Healthy,
    /// Time was over before. It may still become healthy.
    TimedOut,
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    None,
    UnderWay(Subject),
    Done(Subject, Vec<Finding>),
}

/// The rollout of what was deployed last, and the environment's health since.
#[derive(Debug)]
pub(super) struct Rollout {
    timeout: Duration,
    commit: Option<CommitId>,
    /// When the commit was deployed or, healthy since, the environment ceased to be; `None`: it is healthy.
    since: Option<Instant>,
    /// How long it took to become healthy.
    took: Duration,
    /// The end of the commit's rollout has not been told.
    rolling: bool,
    summary: Summary,
    changed: Instant,
    look: Look,
    looked_at: Option<Instant>,
    /// What was last worth a line, or told before there was one.
    turned: Option<(Verdict, Option<End>)>,
    told: Option<Word>,
    /// Nothing is told before.
    tell_from: Option<Instant>,
}

impl Rollout {
    /// Before anything was deployed.
    pub(super) fn new(timeout: Duration, now: Instant) -> Self {
        Self {
            timeout,
            commit: None,
            since: None,
            took: Duration::ZERO,
            rolling: false,
            summary: Summary::default(),
            changed: now,
            look: Look::None,
            looked_at: None,
            turned: None,
            told: None,
            tell_from: None,
        }
    }

    /// The definition changed.
    pub(super) fn redefined(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// A commit was deployed. If nothing had to be written for it, what was going on goes on. `failed`: it had failed already in an earlier life.
    pub(super) fn deployed(&mut self, commit: CommitId, wrote: bool, failed: bool, now: Instant) {
        let first = self.commit.replace(commit).is_none();
        if wrote || first {
            let overdue = first && failed && !wrote;
            self.since = Some(if overdue { now.checked_sub(self.timeout).unwrap_or(now) } else { now });
            (self.rolling, self.look) = (!overdue, Look::None);
            (self.changed, self.turned) = (now, None);
        }
    }

    /// The objects are like this now.
    pub(super) fn saw(&mut self, summary: Summary, now: Instant) {
        if self.summary.named != summary.named || self.summary.unready != summary.unready {
            self.changed = now;
        }
        self.summary = summary;
        if !self.summary.is_current() {
            self.since.get_or_insert(now);
        } else if let Some(since) = self.since.take() {
            self.took = now.saturating_duration_since(since);
            self.look = Look::None;
        }
    }

    /// How the environment stands; `None`: nothing was deployed yet.
    pub(super) fn word(&self, now: Instant) -> Option<Word> {
        self.commit?;
        let verdict = self.verdict(now);
        let findings = match &self.look {
            Look::Done(_, findings) => findings.as_slice(),
            _ => &[],
        };
        let words = self.summary.words(findings);
        let message = match verdict {
            Verdict::TimedOut => format!("not ready within {}: {words}", humantime::format_duration(self.timeout)),
            _ => words,
        };
        Some(Word { verdict, message })
    }

    fn verdict(&self, now: Instant) -> Verdict {
        match () {
            () if self.since.is_none() => Verdict::Healthy,
            () if self.summary.has_failed() => Verdict::Failed,
            () if self.deadline().is_some_and(|at| at <= now) => Verdict::TimedOut,
            () if self.rolling => Verdict::RollingOut,
            () => Verdict::Progressing,
        }
    }

    /// Decides what is to be done now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Step> {
        let (commit, word) = (self.commit?, self.word(now)?);
        if let Some(subject) = self.subject(&word).filter(|_| self.look_at(&word).is_some_and(|at| at <= now)) {
            (self.look, self.looked_at) = (Look::UnderWay(subject.clone()), Some(now));
            return Some(Step::Look(subject));
        }
        let ended = self.end(now);
        if self.tell_at(&word, ended).is_none_or(|at| at > now) {
            return None;
        }
        let turned = match self.turned.replace((word.verdict, ended)) {
            None => is_bad(word.verdict),
            Some((former, _)) if word.verdict == Verdict::Healthy => former != Verdict::Healthy,
            Some((former, end)) => is_bad(word.verdict) && !(is_bad(former) && (ended.is_none() || ended == end)),
        };
        let took = self.since.map_or(self.took, |since| now.saturating_duration_since(since));
        let object = self.summary.named.first().map(|unready| unready.key.clone());
        Some(Step::Tell(Telling { commit, word, object, turned, took, ended }))
    }

    /// When the time is over for what is not ready.
    fn deadline(&self) -> Option<Instant> {
        self.since?.checked_add(self.timeout)
    }

    /// How the rollout of the commit has ended, as long as that is not told.
    fn end(&self, now: Instant) -> Option<End> {
        match () {
            () if !self.rolling => None,
            () if self.since.is_none() => Some(End::Healthy),
            () => self.deadline().filter(|at| *at <= now).map(|_| End::TimedOut),
        }
    }

    /// What there is to be looked into, unless it has been already.
    fn subject(&self, word: &Word) -> Option<Subject> {
        let keys = self.summary.named.iter().map(|unready| unready.key.clone()).collect();
        let subject = Subject { failed: is_bad(word.verdict), keys };
        let known = match &self.look {
            Look::None => false,
            Look::UnderWay(known) | Look::Done(known, _) => *known == subject,
        };
        (!known && !subject.keys.is_empty()).then_some(subject)
    }

    /// When what is behind the state of the objects is to be found out.
    fn look_at(&self, word: &Word) -> Option<Instant> {
        let due = if is_bad(word.verdict) { self.changed } else { self.changed + STALLED };
        let due = self.looked_at.map_or(due, |looked| due.max(looked + BETWEEN_LOOKS));
        self.subject(word).map(|_| due)
    }

    /// When this word is to be told; a failure when it was looked into, unless that takes too long.
    fn tell_at(&self, word: &Word, ended: Option<End>) -> Option<Instant> {
        let news = self.told.as_ref() != Some(word) || ended.is_some();
        let from = self.tell_from.unwrap_or(self.changed);
        let being_looked_into = is_bad(word.verdict) && matches!(self.look, Look::UnderWay(_));
        let looked = self.looked_at.filter(|_| being_looked_into).map(|at| at + LONGEST_LOOK);
        news.then(|| looked.map_or(from, |looked| from.max(looked)))
    }

    /// What was found out about a subject. If there is another one by now, it is worth nothing.
    pub(super) fn looked(&mut self, subject: Subject, findings: Vec<Finding>) {
        if self.look == Look::UnderWay(subject.clone()) {
            self.look = Look::Done(subject, findings);
        }
    }

    /// This was told.
    pub(super) fn told(&mut self, word: Word, ended: Option<End>, now: Instant) {
        self.turned = Some((word.verdict, ended));
        (self.told, self.tell_from) = (Some(word), Some(now + PACE));
        self.rolling &= ended.is_none();
    }

    /// This was told with the end of the deployment itself. What is healthy at once has no rollout; a failure still gets its line.
    pub(super) fn told_with_deployment(&mut self, word: Word, now: Instant) {
        let (ended, bad) = ((word.verdict == Verdict::Healthy).then_some(End::Healthy), is_bad(word.verdict));
        self.told(word, ended, now);
        self.turned.take_if(|_| bad);
    }

    /// The commit that is followed.
    pub(super) fn commit(&self) -> Option<CommitId> {
        self.commit
    }

    /// It could not be told.
    pub(super) fn untold(&mut self, now: Instant) {
        self.tell_from = Some(now + AGAIN);
    }

    /// When [`Self::next`] has to be asked even if nothing is seen; never a moment that it has been asked about.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let word = self.word(now)?;
        let deadline = self.deadline().filter(|at| *at > now);
        [deadline, self.look_at(&word), self.tell_at(&word, self.end(now))].into_iter().flatten().min()
    }
}

fn is_bad(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Failed | Verdict::TimedOut)
}

#[cfg(test)]
mod tests;
