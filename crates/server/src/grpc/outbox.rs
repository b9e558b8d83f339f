//! What one connection is still to be told: bounded, each key at most once, at most one notice of
//! a key under way. A lost acknowledgement is tried again, later and later (config.md §4.6).

pub(super) mod matching;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::key::GroupKey;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::matching::Matching;

use super::wire::{Object, Payload, push};

/// For an acknowledgement of a notice.
const NOTICE_LIMIT: Duration = Duration::from_secs(3);
/// For an acknowledgement of "are you there?".
const DETECTION_LIMIT: Duration = Duration::from_secs(5);
/// Without a sign of life, before it is asked for.
const IDLE: Duration = Duration::from_secs(20);
/// The first retry comes after this, each further one after as much more.
const RETRY_STEP: Duration = Duration::from_secs(2);
/// Notices of one key without an acknowledgement before the connection is given up.
const MAX_TRIES: u32 = 50;
/// Other pushes that may wait: a client that takes none is given up.
const MAX_CONTROL: usize = 16;
/// Questions that may wait for their answers.
const MAX_QUESTIONS: usize = 16;

/// How a client named the public namespace, which notices must repeat.
pub(super) const TENANT_ABSENT: u8 = 0;
/// It named a namespace, whichever.
pub(super) const TENANT_NAMED: u8 = 1;

#[derive(Debug)]
struct Notice {
    tag: u8,
    tries: u32,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Queued,
    /// `again`: the key changed meanwhile.
    Sent {
        id: u64,
        at: Instant,
        again: bool,
    },
    /// Not acknowledged: to be tried again.
    Waiting {
        until: Instant,
    },
}

/// What an acknowledgement is of.
#[derive(Debug)]
enum Sent {
    Notice(GroupKey),
    Matching(Arc<str>),
}

/// What a look at a connection said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// It is to be closed, and why.
    GiveUp(&'static str),
}

/// The waiting pushes of one connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    control: VecDeque<Payload>,
    queue: VecDeque<GroupKey>,
    notices: HashMap<GroupKey, Notice>,
    sent: HashMap<u64, Sent>,
    /// By pattern, as the client wrote it.
    matching: BTreeMap<Arc<str>, Matching>,
    /// What the client was asked, and who waits for the answer.
    questions: Vec<(u64, oneshot::Sender<Bytes>)>,
    detection: Option<(u64, Instant)>,
    /// Of the stream that takes what is here.
    waker: Option<Waker>,
}

impl Outbox {
    /// A key changed. Gives whom to wake.
    pub(super) fn changed(&mut self, key: &GroupKey, tag: u8) -> Option<Waker> {
        match self.notices.get_mut(key) {
            Some(Notice { stage: Stage::Sent { again, .. }, .. }) => {
                *again = true;
                None
            }
            Some(_) => None,
            None => {
                let notice = Notice { tag, tries: 0, stage: Stage::Queued };
                self.notices.insert(key.clone(), notice);
                self.queue.push_back(key.clone());
                self.waker.take()
            }
        }
    }

    /// Forgets what is not sent of a key that nobody listens to any more.
    pub(super) fn forget(&mut self, key: &GroupKey) {
        if let Some(notice) = self.notices.remove(key)
            && let Stage::Sent { id, .. } = notice.stage
        {
            self.sent.remove(&id);
        }
    }

    /// The client watches a pattern and says what it knows of it; what was to be told before is
    /// forgotten, but for what is under way to it.
    pub(super) fn watch(
        &mut self,
        pattern: &Arc<str>,
        mut known: BTreeSet<GroupKey>,
        is_first: bool,
    ) {
        if let Some(before) = self.unwatch(pattern) {
            known.extend(before.under_way().cloned());
        }
        self.matching.insert(Arc::clone(pattern), Matching::new(known, is_first));
    }

    /// The client watches a pattern no longer.
    pub(super) fn unwatch(&mut self, pattern: &str) -> Option<Matching> {
        let before = self.matching.remove(pattern)?;
        if let Some(id) = before.sent() {
            self.sent.remove(&id);
        }
        Some(before)
    }

    /// Something happened to what matches a pattern: `note` says it. False when it says so.
    pub(super) fn matched(
        &mut self,
        pattern: &str,
        note: impl FnOnce(&mut Matching) -> bool,
    ) -> bool {
        let is_fine = self.matching.get_mut(pattern).is_none_or(note);
        self.wake();
        is_fine
    }

    /// Asks the client something; false when too much waits.
    pub(super) fn ask(
        &mut self,
        id: u64,
        payload: Payload,
        answer: oneshot::Sender<Bytes>,
    ) -> bool {
        self.questions.retain(|(_, waiting)| !waiting.is_closed());
        if self.questions.len() >= MAX_QUESTIONS || !self.control(payload) {
            return false;
        }
        self.questions.push((id, answer));
        true
    }

    /// Hands an answer to who waits for it; true when somebody did.
    pub(super) fn answered(&mut self, id: u64, body: &Bytes) -> bool {
        let Some(at) = self.questions.iter().position(|(asked, _)| *asked == id) else {
            return false;
        };
        // Who asked may have gone.
        drop(self.questions.swap_remove(at).1.send(body.clone()));
        true
    }

    /// Another push; false when too many wait.
    pub(super) fn control(&mut self, payload: Payload) -> bool {
        if self.control.len() >= MAX_CONTROL {
            return false;
        }
        self.control.push_back(payload);
        self.wake();
        true
    }

    pub(super) fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(kept) => kept.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What goes next. `id` numbers pushes that are acknowledged.
    pub(super) fn next(
        &mut self,
        now: Instant,
        server_ip: &str,
        exists: &dyn Fn(&GroupKey) -> bool,
        mut id: impl FnMut() -> u64,
    ) -> Option<Payload> {
        if let Some(payload) = self.control.pop_front() {
            return Some(payload);
        }
        while let Some(key) = self.queue.pop_front() {
            // A key that was forgotten meanwhile is passed over.
            let Some(notice) = self.notices.get_mut(&key) else { continue };
            if notice.stage != Stage::Queued {
                continue;
            }
            let id = id();
            notice.stage = Stage::Sent { id, at: now, again: false };
            let object =
                Object::request(Some(id)).text("dataId", key.data_id()).text("group", key.group());
            let object = match notice.tag {
                TENANT_ABSENT => object,
                _ => object.text("tenant", key.namespace()),
            };
            self.sent.insert(id, Sent::Notice(key));
            let object = object.text("module", "config");
            return Some(push("ConfigChangeNotifyRequest", server_ip, object));
        }
        for (pattern, matching) in &mut self.matching {
            if let Some((id, kind, object)) = matching.next(pattern, now, exists, &mut id) {
                self.sent.insert(id, Sent::Matching(Arc::clone(pattern)));
                return Some(push(kind, server_ip, object));
            }
        }
        None
    }

    /// The client acknowledged a push, or refused it.
    pub(super) fn acknowledged(&mut self, id: u64, is_success: bool, now: Instant) {
        if self.detection.is_some_and(|(asked, _)| asked == id) {
            if is_success {
                self.detection = None;
            }
            return;
        }
        let key = match self.sent.remove(&id) {
            None => return,
            Some(Sent::Notice(key)) => key,
            Some(Sent::Matching(pattern)) => {
                let matching = self.matching.get_mut(&pattern);
                if matching.is_some_and(|matching| matching.acknowledged(is_success, now)) {
                    self.wake();
                }
                return;
            }
        };
        let Some(notice) = self.notices.get_mut(&key) else { return };
        let Stage::Sent { again, .. } = notice.stage else { return };
        if !is_success {
            notice.tries += 1;
            notice.stage = Stage::Waiting { until: now + RETRY_STEP * notice.tries };
        } else if again {
            (notice.tries, notice.stage) = (0, Stage::Queued);
            self.queue.push_back(key);
            self.wake();
        } else {
            self.notices.remove(&key);
        }
    }

    /// Looks at the clock: what was not acknowledged, whether it is there at all. `active` is
    /// when the client last gave a sign of life. Gives how many notices were lost, too.
    pub(super) fn look(
        &mut self,
        now: Instant,
        active: Instant,
        server_ip: &str,
        id: impl FnOnce() -> u64,
    ) -> (Verdict, u64) {
        let mut lost = 0;
        for (key, notice) in &mut self.notices {
            match notice.stage {
                Stage::Sent { id, at, .. } if now >= at + NOTICE_LIMIT => {
                    lost += 1;
                    self.sent.remove(&id);
                    notice.tries += 1;
                    notice.stage = Stage::Waiting { until: now + RETRY_STEP * notice.tries };
                    if notice.tries >= MAX_TRIES {
                        return (Verdict::GiveUp("notices are not acknowledged"), lost);
                    }
                }
                Stage::Waiting { until } if now >= until => {
                    notice.stage = Stage::Queued;
                    self.queue.push_back(key.clone());
                }
                Stage::Queued | Stage::Sent { .. } | Stage::Waiting { .. } => {}
            }
        }
        let mut is_due = !self.queue.is_empty();
        for matching in self.matching.values_mut() {
            let (late, again) = matching.look(now);
            if let Some(id) = late {
                lost += 1;
                self.sent.remove(&id);
            }
            if matching.is_hopeless() {
                return (Verdict::GiveUp("what matches a pattern is not acknowledged"), lost);
            }
            is_due |= again;
        }
        if is_due {
            self.wake();
        }
        match self.detection {
            Some((_, asked)) if active > asked => self.detection = None,
            Some((_, asked)) if now >= asked + DETECTION_LIMIT => {
                return (Verdict::GiveUp("it does not answer"), lost);
            }
            None if now >= active + IDLE => {
                let id = id();
                self.detection = Some((id, now));
                let object = Object::request(Some(id)).text("module", "internal");
                if !self.control(push("ClientDetectionRequest", server_ip, object)) {
                    return (Verdict::GiveUp("it takes no pushes"), lost);
                }
            }
            Some(_) | None => {}
        }
        (Verdict::Fine, lost)
    }

    /// Whether a notice of a key waits or is not acknowledged.
    pub(super) fn is_waiting(&self, key: &GroupKey) -> bool {
        self.notices.contains_key(key)
    }

    /// Notices that wait or are under way.
    pub(super) fn len(&self) -> usize {
        self.notices.len()
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::key::{DataId, Group, NamespaceId};

    use super::*;

    fn key(name: &str) -> GroupKey {
        let (group, data_id) = (Group::parse("G").unwrap(), DataId::parse(name).unwrap());
        GroupKey::new(&NamespaceId::public(), &group, &data_id)
    }

    fn body(payload: Option<Payload>) -> String {
        let body = payload.expect("a push").body.expect("a body").value;
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn a_key_is_told_once_and_again_when_it_changed_meanwhile() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        outbox.changed(&key("a"), TENANT_ABSENT);
        outbox.changed(&key("a"), TENANT_ABSENT);
        outbox.changed(&key("b"), TENANT_NAMED);
        assert_eq!(
            body(outbox.next(now, "", &|_| true, || 1)),
            r#"{"headers":{},"requestId":"1","dataId":"a","group":"G","module":"config"}"#
        );
        assert_eq!(
            body(outbox.next(now, "", &|_| true, || 2)),
            r#"{"headers":{},"requestId":"2","dataId":"b","group":"G","tenant":"public","module":"config"}"#
        );
        assert!(outbox.next(now, "", &|_| true, || 3).is_none());
        outbox.changed(&key("a"), TENANT_ABSENT);
        assert!(outbox.next(now, "", &|_| true, || 3).is_none(), "one at a time");
        outbox.acknowledged(1, true, now);
        assert!(body(outbox.next(now, "", &|_| true, || 3)).contains("\"requestId\":\"3\""));
        outbox.acknowledged(3, true, now);
        outbox.acknowledged(2, true, now);
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn what_is_not_acknowledged_is_tried_again_and_then_given_up() {
        let (mut outbox, start) = (Outbox::default(), Instant::now());
        outbox.changed(&key("a"), TENANT_ABSENT);
        let mut now = start;
        let mut sent = 0;
        for _ in 0..4000 {
            if outbox.next(now, "", &|_| true, || sent + 1).is_some() {
                sent += 1;
            }
            now += Duration::from_secs(1);
            if let (Verdict::GiveUp(why), _) = outbox.look(now, now, "", || 0) {
                assert_eq!((why, sent), ("notices are not acknowledged", 50));
                return;
            }
        }
        panic!("never given up");
    }

    #[test]
    fn an_idle_client_is_asked_whether_it_is_there() {
        let (mut outbox, start) = (Outbox::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(outbox.look(at(19), start, "", || 7).0, Verdict::Fine);
        assert!(outbox.next(at(19), "", &|_| true, || 0).is_none());
        assert_eq!(outbox.look(at(20), start, "", || 7).0, Verdict::Fine);
        let asked = body(outbox.next(at(20), "", &|_| true, || 0));
        assert_eq!(asked, r#"{"headers":{},"requestId":"7","module":"internal"}"#);
        assert_eq!(outbox.look(at(24), start, "", || 8).0, Verdict::Fine);
        assert_eq!(outbox.look(at(25), start, "", || 8).0, Verdict::GiveUp("it does not answer"));
        outbox.acknowledged(7, true, at(25));
        assert_eq!(outbox.look(at(26), at(25), "", || 8).0, Verdict::Fine);
    }
}
