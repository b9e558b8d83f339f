//! Values out of settings, and all mistakes at once.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use quorate_core::kind::history;
use quorate_raft::trim::HistoryBounds;

use super::endpoint::Endpoint;
use super::settings::{Settings, name_of};
use super::{ClusterSecret, JoinOnly, quantity};

/// Takes values out of [`Settings`], remembers what was wrong and goes on with the default.
pub(super) struct Reader {
    pub(super) settings: Settings,
    pub(super) mistakes: Vec<String>,
    /// Keys whose value was refused: rules between settings leave them alone, for a rule about a
    /// value that nobody meant would only mislead.
    pub(super) wrong: BTreeSet<&'static str>,
    /// Names of the keys that were given, as their writer knows them.
    pub(super) names: Vec<(&'static str, String)>,
}

impl Reader {
    pub(super) fn new(mut settings: Settings) -> Self {
        let mistakes = settings.take_mistakes();
        Self { settings, mistakes, wrong: BTreeSet::new(), names: Vec::new() }
    }

    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (name, text) = self.settings.take(key)?;
        self.names.push((key, name.clone()));
        match parse(&text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.wrong.insert(key);
                self.mistakes.push(format!("{name}: {reason}"));
                None
            }
        }
    }

    pub(super) fn size(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        self.value(key, |text| quantity::size_bytes(text, &allowed)).unwrap_or(default)
    }

    /// `allowed` and `default` in milliseconds.
    pub(super) fn time(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<u64>,
        default: u64,
    ) -> Duration {
        let (least, most) = allowed.into_inner();
        let allowed = Duration::from_millis(least)..=Duration::from_millis(most);
        self.value(key, |text| quantity::duration(text, &allowed))
            .unwrap_or(Duration::from_millis(default))
    }

    pub(super) fn name(&self, key: &'static str) -> String {
        let given = self.names.iter().find(|(named, _)| *named == key);
        given.map_or_else(|| name_of(key), |(_, name)| name.clone())
    }

    pub(super) fn sound(&self, keys: &[&'static str]) -> bool {
        keys.iter().all(|key| !self.wrong.contains(key))
    }

    pub(super) fn refuse(&mut self, key: &'static str, reason: &str) {
        self.wrong.insert(key);
        self.mistakes.push(format!("{}: {reason}", self.name(key)));
    }

    /// A rule between two settings; told at the one that somebody wrote, the later one if both.
    pub(super) fn ordered(&mut self, keys: [&'static str; 2], holds: bool, rule: &str) {
        if holds || !self.sound(&keys) {
            return;
        }
        let [first, second] = keys;
        let wrote_second = self.names.iter().any(|(named, _)| *named == second);
        self.mistakes
            .push(format!("{}: {rule}", self.name(if wrote_second { second } else { first })));
    }

    pub(super) fn derived_listen(
        &mut self,
        key: &'static str,
        http: &Endpoint,
        step: i32,
    ) -> Endpoint {
        if let Some(endpoint) = self.value(key, Endpoint::parse) {
            return endpoint;
        }
        if http.port() == 0 || !self.sound(&[key]) {
            return http.at_port(0);
        }
        let port = i32::from(http.port()) + step;
        match u16::try_from(port) {
            Ok(port) if port > 0 => http.at_port(port),
            Ok(_) | Err(_) => {
                let (taken, sign) = (http.port(), if step < 0 { '-' } else { '+' });
                let step = step.unsigned_abs();
                let reason = format!(
                    "not set, and {taken} (the port of http_listen) {sign} {step} is outside 1 \
                     to 65535: write HOST:PORT"
                );
                self.refuse(key, &reason);
                http.at_port(0)
            }
        }
    }

    pub(super) fn refuse_collisions(&mut self, listeners: &[(&'static str, &Endpoint)]) {
        let mut seen: Vec<(&'static str, &Endpoint)> = Vec::new();
        for (key, endpoint) in listeners {
            let earlier = seen.iter().find(|(other_key, other)| {
                self.sound(&[key, other_key]) && endpoint.collides_with(other)
            });
            if let Some((other_key, other)) = earlier {
                let reason = format!("{endpoint} is taken by {other_key} ({other})");
                self.refuse(key, &reason);
            }
            seen.push((key, endpoint));
        }
    }

    pub(super) fn advertise(&mut self, peer_listen: &Endpoint) -> Endpoint {
        let given =
            self.value("advertise", |text| Endpoint::parse_dialled(text, peer_listen.port()));
        if given.is_none() && peer_listen.is_unspecified() && self.sound(&["advertise"]) {
            let reason = format!(
                "required, because nobody can dial {peer_listen} (peer_listen): write the \
                 HOST[:PORT] where the other nodes find this one"
            );
            self.refuse("advertise", &reason);
        }
        given.unwrap_or_else(|| peer_listen.clone())
    }

    pub(super) fn client_address(
        &mut self,
        key: &'static str,
        listen: &Endpoint,
        advertise: &Endpoint,
    ) -> Endpoint {
        self.value(key, |text| Endpoint::parse_dialled(text, listen.port())).unwrap_or_else(|| {
            if listen.is_unspecified() { advertise.at_port(listen.port()) } else { listen.clone() }
        })
    }

    pub(super) fn check_membership(
        &mut self,
        peers: &[Endpoint],
        advertise: &Endpoint,
        join_only: JoinOnly,
    ) {
        if !self.sound(&["peers", "advertise", "peer_listen", "http_listen", "join_only"]) {
            return;
        }
        if join_only == JoinOnly::Unlisted && peers.is_empty() {
            self.refuse("join_only", "unlisted needs peers: write those that found the cluster");
            return;
        }
        if join_only != JoinOnly::No {
            return;
        }
        if peers.is_empty() || peers.contains(advertise) {
            return;
        }
        if advertise.port() == 0 {
            let reason = "port 0 does not go with peers: the other nodes must know it beforehand";
            self.refuse("peer_listen", reason);
            return;
        }
        let listed: Vec<_> = peers.iter().map(ToString::to_string).collect();
        let listed = listed.join(",");
        let reason = format!("{advertise} is not one of peers ({listed}): write this node's entry");
        self.refuse("advertise", &reason);
    }

    pub(super) fn require_secret(
        &mut self,
        peer_listen: &Endpoint,
        secret: Option<&ClusterSecret>,
    ) {
        let key = "cluster_secret_file";
        let sound = self.sound(&[key, "peer_listen", "http_listen"]);
        if secret.is_none() && sound && !peer_listen.is_loopback() {
            let reason = format!(
                "required, because {peer_listen} (peer_listen) is beyond loopback: write a FILE, \
                 or listen on 127.0.0.1 if this node is alone"
            );
            self.refuse(key, &reason);
        }
    }

    /// Bounds of the history.
    pub(super) fn history(&mut self) -> HistoryBounds {
        let most = history::MAX_VERSIONS;
        let HistoryBounds { keep, versions } = HistoryBounds::default();
        let default = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let keep = self.time("history_keep", 60_000..=87_600 * 3_600_000, default);
        let asked = self.value("history_versions", |text| quantity::count(text, &(1..=most)));
        let versions = asked.and_then(|count| u32::try_from(count).ok()).unwrap_or(versions);
        HistoryBounds { keep, versions }
    }
}
