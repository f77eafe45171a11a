//! Tell: the facts of an incident as a page, in the order in which somebody asks for them.

use std::collections::BTreeSet;

use breakglass::api::Timestamp;

use super::facts::{ChangeFacts, Facts, TokenFacts, VerdictFacts};
use super::page::{Block, Page, Text};
use crate::print::age;
use crate::row_state::RowState;
use crate::tokens::Standing;

/// Tells all of it.
pub fn tell(facts: &Facts) -> Page {
    let mut blocks = vec![Block::Sentences(summary(facts).into()), Block::Part("Tokens".to_owned())];
    blocks.extend(facts.tokens.iter().flat_map(token));
    if facts.tokens.is_empty() {
        blocks.push(Block::Sentences("No token of it is there any more.".into()));
    }
    for lost in &facts.lost_tokens {
        let text = format!("{lost} was deleted: who opened it, why, and until when is not known.");
        blocks.push(Block::Sentences(text.into()));
    }
    blocks.push(Block::Part("Timeline".to_owned()));
    blocks.push(timeline(facts));
    blocks.push(Block::Part("Writes".to_owned()));
    if facts.changes.is_empty() {
        blocks.push(Block::Sentences("Nothing was written under it.".into()));
    }
    for (index, change) in facts.changes.iter().enumerate() {
        blocks.push(Block::Item(format!("Write {}: {}", index + 1, change.did)));
        blocks.push(Block::Points(of_change(change)));
        blocks.extend(change.diff.clone().map(Block::Diff));
    }
    blocks.push(Block::Part("Still owed".to_owned()));
    blocks.extend(owed(facts));
    blocks.push(Block::Part("What is not on record".to_owned()));
    blocks.extend(unseen(facts));
    Page { title: format!("{}: what was done, and what became of it", facts.incident), blocks }
}

/// A moment as a person reads it.
pub(super) fn utc(time: Timestamp) -> String {
    time.instant().format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `1 change`, `2 changes`.
pub(super) fn count(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

fn list(names: BTreeSet<&str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn summary(facts: &Facts) -> String {
    let made = format!("Made at {} from what context {} says.", utc(facts.at), facts.context);
    let (Some(first), Some(last)) = (facts.changes.first(), facts.changes.last()) else {
        return format!("{}, and no write. {made}", count(facts.tokens.len(), "token"));
    };
    let users = list(facts.changes.iter().map(|change| change.user.as_str()).collect());
    let environments = list(facts.changes.iter().map(|change| change.environment.as_str()).collect());
    let when = if first.time == last.time {
        format!("at {}", utc(first.time))
    } else {
        format!("from {} to {}", utc(first.time), utc(last.time))
    };
    let owed = match (facts.owed, facts.overdue) {
        (0, _) => "Nothing is owed any more.".to_owned(),
        (owed, 0) => format!("Still owed: {owed}, none overdue."),
        (owed, overdue) => format!("Still owed: {owed}, and {overdue} of them overdue."),
    };
    let writes = count(facts.changes.len(), "write");
    let tokens = count(facts.tokens.len() + facts.lost_tokens.len(), "token");
    format!("{writes} to {environments} by {users}, {when}, under {tokens}. {owed} {made}")
}

fn token(token: &TokenFacts) -> Vec<Block> {
    let length = age::length(token.expires_at.instant() - token.opened_at.instant());
    let mut points = vec![
        format!("Opened by {} at {}", token.user, utc(token.opened_at)),
        format!("For {}", token.place()),
        format!("Why: {}", token.reason),
        format!("Until {}, {length} long", utc(token.expires_at)),
    ];
    for approval in &token.approvals {
        let note = approval.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
        points.push(format!("Approved by {} at {}{note}", approval.user, utc(approval.time)));
    }
    let by = token.closed_by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
    let at = token.closed_at.map_or_else(String::new, |at| format!(" at {}", utc(at)));
    points.push(match token.standing {
        Standing::Waiting => "Waiting for approval: it lets nothing in".to_owned(),
        Standing::Live => "Still open".to_owned(),
        Standing::Expired => format!("Ended when its time was up, at {}", utc(token.expires_at)),
        Standing::Closed => format!("Closed{by}{at}"),
        Standing::Denied => format!("Denied{by}{at}"),
    });
    points.push(format!("Let in: {}", count(token.writes, "write")));
    vec![Block::Item(token.name.clone()), Block::Points(points.into_iter().map(Text::from).collect())]
}

fn timeline(facts: &Facts) -> Block {
    let rows = facts.timeline.iter().map(|moment| {
        vec![
            utc(moment.time).trim_end_matches(" UTC").to_owned(),
            moment.user.clone().unwrap_or_default(),
            moment.text.clone(),
        ]
    });
    Block::Table { header: vec!["Time (UTC)", "Who", "What"], rows: rows.collect() }
}

fn of_change(change: &ChangeFacts) -> Vec<Text> {
    let through = change.manager.as_ref().map_or_else(String::new, |manager| format!(" through {manager}"));
    let mut points: Vec<Text> = vec![
        format!("By {}{through}, at {}, in {}", change.user, utc(change.time), change.environment).into(),
        format!("Recorded as {} under {}", change.name, change.token).into(),
    ];
    if let Some(credential) = &change.credential {
        points.push(format!("Credential: {credential}").into());
    }
    if let Some(owner) = &change.owner {
        points.push(format!("In Git it belongs to {owner}").into());
    }
    if !change.undoes.is_empty() {
        points.push(format!("Undoes {}", change.undoes.join(", ")).into());
    }
    points.extend(change.verdict.as_ref().map(verdict));
    points.extend(change.verdict.as_ref().and_then(git));
    points.push(state(change).into());
    if change.hidden {
        points.push("The policy hides its values: a hash stands for each, and equal hashes for equal values".into());
    }
    points.extend(change.diff_missing.as_ref().map(|why| format!("Not shown: {why}").into()));
    points
}

fn verdict(verdict: &VerdictFacts) -> Text {
    let by = verdict.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
    let at = verdict.at.map_or_else(String::new, |at| format!(" at {}", utc(at)));
    let after = verdict.after.map_or_else(String::new, |after| format!(", {} after the write", age::length(after)));
    let until = verdict.until.map_or_else(String::new, |until| format!(", until {}", utc(until)));
    let note = verdict.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
    format!("Verdict: {}{by}{at}{after}{until}{note}", verdict.did()).into()
}

fn git(verdict: &VerdictFacts) -> Option<Text> {
    let git = verdict.git.as_ref()?;
    let parts = [("", &git.repository), ("branch ", &git.branch), ("commit ", &git.commit), ("", &git.path)];
    let parts = parts.into_iter().filter_map(|(name, value)| Some(format!("{name}{}", value.as_ref()?)));
    Some(format!("In Git: {}", parts.collect::<Vec<_>>().join(", ")).into())
}

/// What has become of it.
fn state(change: &ChangeFacts) -> String {
    match (change.state, change.due) {
        (RowState::Settled, _) => {
            let at = change.settled_at.map_or_else(String::new, |at| format!(" at {}", utc(at)));
            let after = change
                .settled_after
                .map_or_else(String::new, |after| format!(", {} after the write", age::length(after)));
            format!("Settled{at}{after}: {}", change.how_it_ended())
        }
        (RowState::Admitted, Some(due)) => {
            format!("Let in, and not seen in the cluster yet; to be decided by {}", utc(due))
        }
        (RowState::Pending, Some(due)) => format!("Not decided; to be decided by {}{}", utc(due), late(change)),
        (RowState::Deferred, Some(due)) => format!("Put off to {}{}", utc(due), late(change)),
        (RowState::Accepted, _) => "Accepted, and not seen in Git yet".to_owned(),
        (RowState::Rejected, _) => "Rejected, and not seen put back yet".to_owned(),
        (other, _) => other.as_str().to_owned(),
    }
}

fn late(change: &ChangeFacts) -> String {
    change.overdue.map_or_else(String::new, |overdue| format!(": {} overdue", age::length(overdue)))
}

fn owed(facts: &Facts) -> Vec<Block> {
    let owed = facts.changes.iter().filter(|change| change.is_owed());
    let rows: Vec<Vec<String>> = owed
        .map(|change| {
            vec![
                change.name.clone(),
                change.target.place(),
                change.state.as_str().to_owned(),
                change.due.map(utc).unwrap_or_default(),
                change.overdue.map_or_else(String::new, age::length),
            ]
        })
        .collect();
    if rows.is_empty() {
        return vec![Block::Sentences("Nothing.".into())];
    }
    vec![
        Block::Table { header: vec!["Change", "Object", "State", "To be decided by", "Overdue for"], rows },
        Block::Sentences(
            Text::from("See them:").command(format!("kubectl breakglass list --incident {}", facts.incident)),
        ),
    ]
}

fn unseen(facts: &Facts) -> Vec<Block> {
    let unseen = &facts.unseen;
    let told: Vec<Text> =
        unseen.told.iter().map(|told| format!("{}: {}", utc(told.time), told.sentence()).into()).collect();
    let mut blocks = Vec::new();
    if told.is_empty() && unseen.known.is_empty() {
        blocks.push(Block::Sentences("Nothing is known to be missing.".into()));
    }
    if !told.is_empty() {
        blocks.push(Block::Sentences("What the webhook told of itself:".into()));
        blocks.push(Block::Points(told));
    }
    if !unseen.known.is_empty() {
        blocks.push(Block::Sentences("What is known:".into()));
        blocks.push(Block::Points(unseen.known.iter().map(|known| Text::from(known.clone())).collect()));
    }
    if !unseen.unknown.is_empty() {
        blocks.push(Block::Sentences("What the cluster does not tell, and where to look:".into()));
        let points = unseen.unknown.iter().map(|doubt| Text::from(doubt.what.clone()).command(&doubt.how));
        blocks.push(Block::Points(points.collect()));
    }
    blocks
}
