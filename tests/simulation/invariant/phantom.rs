//! Nothing is read that nobody wrote, nor anything whose writer was told that it was not written.

use std::collections::BTreeMap;

use crate::history::{History, Outcome, content, number};

/// Goes through all contents that anybody saw, and says what is wrong.
pub(crate) fn check(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let writes: BTreeMap<_, _> = history
        .operations
        .iter()
        .filter_map(|operation| operation.action.value().map(|value| (value, operation)))
        .collect();
    for ((key, text), moment) in &history.seen {
        let write = number(text)
            .filter(|value| content(*value) == *text)
            .and_then(|value| writes.get(&value))
            .filter(|write| write.key == *key && write.invoked < *moment);
        let why = match write.map(|write| write.outcome) {
            None => "was never written",
            Some(Outcome::Refused) => "was refused",
            Some(Outcome::Mismatch(_) | Outcome::Differed) => "did not compare",
            Some(_) => continue,
        };
        let text: String = text.chars().take(12).collect();
        wrong.push(format!("key{key} had {text:?}, which {why}"));
    }
    wrong
}
