//! Whom this node has met: which run of a process goes by a node id, and where it is now.
//!
//! A node id belongs to a data directory. What can go wrong with one outside of Raft is that the
//! directory is copied and both copies run, or that an old copy of it comes back. Every call names
//! the caller's run (how often its directory was started, and a random nonce); the first of a new
//! run is checked against what was met before. What only nodes that are down have met cannot be
//! known (docs/guarantees.md).

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;

use crate::types::{LogId, Member, NodeId};

/// One run of a process over a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// How often the directory was started, this time included.
    pub(crate) starts: u64,
    /// Random, of this process.
    pub(crate) nonce: u64,
}

impl Run {
    /// As call metadata has it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (starts, nonce) = text.split_once('.')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { starts: number(starts)?, nonce: number(nonce)? })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.starts, self.nonce)
    }
}

/// A node that says who it is.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    pub(crate) id: NodeId,
    /// `None`: release 0.1 does not tell.
    pub(crate) run: Option<Run>,
    /// The last entry that its log had when it started.
    pub(crate) last: Option<LogId>,
    pub(crate) member: Member,
    pub(crate) feature_level: u32,
}

#[derive(Debug, Clone)]
struct Known {
    run: Option<Run>,
    member: Option<Member>,
    feature_level: u32,
}

/// What is to be done with an introduction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is known, or the first of its id.
    Welcome,
    /// A later run: welcome if the one before has ended. Where that one was.
    After(Run, Option<String>),
    /// It must not take part.
    Refused(String),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Met(Mutex<BTreeMap<NodeId, Known>>);

impl Met {
    /// Looks at an introduction; remembers it when it is welcome.
    pub(crate) fn judge(&self, who: &Introduction) -> Verdict {
        let mut met = self.0.lock();
        if let (Some(known), Some(run)) = (met.get(&who.id), who.run)
            && let Some(before) = known.run
            && before != run
        {
            return match run.starts.cmp(&before.starts) {
                std::cmp::Ordering::Less => Verdict::Refused(format!(
                    "the data directory of node {:016x} is an old copy: it was started {} times, \
                     but {} starts of it were met; move it away and start empty",
                    who.id, run.starts, before.starts
                )),
                std::cmp::Ordering::Equal => Verdict::Refused(copied(who.id)),
                std::cmp::Ordering::Greater => {
                    Verdict::After(before, known.member.as_ref().map(|member| member.peer.clone()))
                }
            };
        }
        met.insert(who.id, Known::from(who));
        Verdict::Welcome
    }

    /// Remembers a later run whose predecessor has ended.
    pub(crate) fn succeed(&self, who: &Introduction) {
        self.0.lock().insert(who.id, Known::from(who));
    }

    /// Whether calls of this run may be taken: it is the known one, or the first of its id.
    pub(crate) fn admits(&self, id: NodeId, run: Option<Run>) -> bool {
        let Some(run) = run else { return true };
        let mut met = self.0.lock();
        let known =
            met.entry(id).or_insert_with(|| Known { run: None, member: None, feature_level: 0 });
        *known.run.get_or_insert(run) == run
    }

    /// Where a node was met last.
    pub(crate) fn address_of(&self, id: NodeId) -> Option<String> {
        Some(self.0.lock().get(&id)?.member.as_ref()?.peer.clone())
    }

    /// What it last said of itself.
    pub(crate) fn member(&self, id: NodeId) -> Option<(Member, u32)> {
        let met = self.0.lock();
        let known = met.get(&id)?;
        Some((known.member.clone()?, known.feature_level))
    }

    /// Forgets all but these: they are no members.
    pub(crate) fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        self.0.lock().retain(|id, _| keep(*id));
    }
}

pub(crate) fn copied(id: NodeId) -> String {
    format!(
        "another process runs as node {id:016x}: its data directory was copied; stop one, and \
         let the copy start empty"
    )
}

impl From<&Introduction> for Known {
    fn from(who: &Introduction) -> Self {
        Self { run: who.run, member: Some(who.member.clone()), feature_level: who.feature_level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(starts: u64, nonce: u64) -> Introduction {
        let member = Member { peer: "a:1".to_owned(), ..Member::default() };
        let run = Some(Run { starts, nonce });
        Introduction { id: 7, run, last: None, member, feature_level: 2 }
    }

    #[tokio::test]
    async fn runs_succeed_each_other_and_copies_are_refused() {
        let met = Met::default();
        assert_eq!(met.judge(&who(3, 1)), Verdict::Welcome);
        assert_eq!(met.judge(&who(3, 1)), Verdict::Welcome);
        let Verdict::Refused(copy) = met.judge(&who(3, 2)) else { panic!("a copy") };
        assert!(copy.contains("copied"), "{copy}");
        let Verdict::Refused(old) = met.judge(&who(2, 3)) else { panic!("an old one") };
        assert!(old.contains("old copy"), "{old}");
        let before = Run { starts: 3, nonce: 1 };
        let later = who(4, 4);
        assert_eq!(met.judge(&later), Verdict::After(before, Some("a:1".to_owned())));
        assert!(met.admits(7, Some(before)) && !met.admits(7, later.run));
        met.succeed(&later);
        assert!(!met.admits(7, Some(before)) && met.admits(7, later.run));
    }

    #[tokio::test]
    async fn the_first_call_of_an_unknown_id_is_taken() {
        let met = Met::default();
        assert!(met.admits(7, Some(Run { starts: 3, nonce: 1 })));
        assert!(!met.admits(7, Some(Run { starts: 4, nonce: 1 })));
        assert!(met.admits(7, None), "release 0.1 does not tell");
    }

    #[test]
    fn a_run_is_read_back() {
        let run = Run { starts: 17, nonce: u64::MAX };
        assert_eq!(Run::parse(&run.to_string()), Some(run));
        assert_eq!((Run::parse("1"), Run::parse("x.1")), (None, None));
    }
}
