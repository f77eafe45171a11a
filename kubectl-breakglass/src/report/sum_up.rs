//! Sum up: the figures of a time as a page.

use super::facts::outcome;
use super::figures::{Count, Ended, Figures, Incident, Orphans, Times, Tokens, Verdicts};
use super::page::{Block, Page, Text};
use super::tell::{count, utc};
use crate::print::age;

/// Sums up.
pub fn sum_up(figures: &Figures) -> Page {
    let mut blocks = vec![Block::Sentences(summary(figures).into())];
    blocks.push(Block::Part("Writes".to_owned()));
    for (name, counts) in
        [("Environment", &figures.by_environment), ("User", &figures.by_user), ("Operation", &figures.by_operation)]
    {
        blocks.extend(table(name, counts, figures.changes));
    }
    blocks.push(Block::Part("Verdicts".to_owned()));
    blocks.extend(table("Verdict", &verdicts(figures.verdicts), figures.changes));
    blocks.push(Block::Sentences(times(figures.time_to_verdict).into()));
    let ended = |one: &Ended| Count { name: outcome(one.outcome).to_owned(), changes: one.changes };
    let ended: Vec<Count> = figures.outcomes.iter().map(ended).collect();
    blocks.extend(table("How it ended", &ended, figures.changes));
    blocks.push(Block::Part("Tokens".to_owned()));
    blocks.push(Block::Points(tokens(figures.tokens)));
    blocks.push(Block::Part("Owed".to_owned()));
    blocks.push(Block::Sentences(owed(figures)));
    blocks.push(Block::Part("Orphans".to_owned()));
    blocks.extend(orphans(&figures.orphans));
    blocks.push(Block::Part("Incidents".to_owned()));
    blocks.push(incidents(&figures.incidents));
    Page { title: format!("Writes to guarded environments since {}", utc(figures.since)), blocks }
}

fn summary(figures: &Figures) -> String {
    format!(
        "{} in {}, under {}, until {}. Made from what context {} says. A write is counted by when it was let in, a \
         verdict with its write; of several verdicts on one the last is on record.",
        count(figures.changes, "write"),
        count(figures.incidents.len(), "incident"),
        count(figures.tokens.opened, "token"),
        utc(figures.at),
        figures.context,
    )
}

/// Counts and their share of all; nothing where there is nothing to count.
fn table(name: &'static str, counts: &[Count], all: usize) -> Option<Block> {
    let share = |changes: usize| match (changes * 200 + all).checked_div(2 * all) {
        Some(0) if changes > 0 => "under 1%".to_owned(),
        Some(percent) => format!("{percent}%"),
        None => String::new(),
    };
    let rows: Vec<Vec<String>> = counts
        .iter()
        .filter(|count| count.changes > 0)
        .map(|count| vec![count.name.clone(), count.changes.to_string(), share(count.changes)])
        .collect();
    (!rows.is_empty()).then(|| Block::Table { header: vec![name, "Writes", "Share"], rows })
}

fn verdicts(verdicts: Verdicts) -> Vec<Count> {
    let Verdicts { accepted, rejected, deferred, none_yet, none_needed } = verdicts;
    [
        ("accepted", accepted),
        ("rejected", rejected),
        ("deferred", deferred),
        ("none yet", none_yet),
        ("none, and none is needed any more", none_needed),
    ]
    .map(|(name, changes)| Count { name: name.to_owned(), changes })
    .into()
}

fn times(times: Option<Times>) -> String {
    let Some(Times { median, ninetieth, longest }) = times else { return "Nobody has decided about any.".to_owned() };
    let [median, ninetieth, longest] = [median, ninetieth, longest].map(age::length);
    format!(
        "From the write to its verdict: half took {median} or less, nine of ten {ninetieth} or less, none more than {longest}."
    )
}

fn tokens(tokens: Tokens) -> Vec<Text> {
    let Tokens { opened, approved, live, waiting, expired, closed, denied } = tokens;
    let points = [
        (opened, "opened"),
        (approved, "approved by somebody else"),
        (live, "still open"),
        (waiting, "waiting for approval"),
        (expired, "ended when their time was up"),
        (closed, "ended early"),
        (denied, "denied"),
    ];
    points.into_iter().map(|(number, what)| format!("{what}: {number}").into()).collect()
}

fn owed(figures: &Figures) -> Text {
    let owed = figures.owed;
    let (Some(since), overdue) = (owed.overdue_since, owed.overdue) else {
        return match owed.changes {
            0 => "Nothing is owed, whenever it was written.".into(),
            owed => format!("{} owed, whenever written; none overdue.", count(owed, "change")).into(),
        };
    };
    let late = age::length(figures.at.instant() - since.instant());
    let text =
        format!("{} owed, whenever written; {overdue} overdue, the oldest for {late}.", count(owed.changes, "change"));
    Text::from(text).command("kubectl breakglass list -A --overdue")
}

/// What no engine owns, and how far that was seen.
fn orphans(orphans: &Orphans) -> Vec<Block> {
    let place = &orphans.place;
    let text = match orphans.objects {
        None => "What no engine owns could not be counted.".into(),
        Some(0) => format!("None {place}.").into(),
        Some(number) => {
            let text = format!("{} {place} that no engine owns, whenever made.", count(number, "object"));
            Text::from(text).command("kubectl breakglass orphans")
        }
    };
    let doubts: Vec<Text> = orphans.doubts.iter().map(|doubt| doubt.clone().into()).collect();
    let doubts = (!doubts.is_empty()).then_some(Block::Points(doubts));
    [Block::Sentences(text)].into_iter().chain(doubts).collect()
}

fn incidents(incidents: &[Incident]) -> Block {
    if incidents.is_empty() {
        return Block::Sentences("None.".into());
    }
    let row = |one: &Incident| {
        let users = one.users.iter().cloned().collect::<Vec<_>>().join(", ");
        let began = utc(one.began);
        let numbers = [one.changes, one.owed, one.overdue].map(|number| number.to_string());
        [vec![one.incident.clone(), began.trim_end_matches(" UTC").to_owned(), users], numbers.into()].concat()
    };
    let header = vec!["Incident", "Began (UTC)", "Who", "Writes", "Owed", "Overdue"];
    Block::Table { header, rows: incidents.iter().map(row).collect() }
}
