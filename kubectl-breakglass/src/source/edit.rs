//! The path of an edit: what is asked for, where it is defined, what may do, and what of that is proven.

use std::path::Path;

use serde_json::Value;

use super::compare::{Target, id_of, is_it};
use super::field::{Change, Step, pointer};
use super::find::{self, Definition};
use super::plan::{Ground, Try, tries};
use super::prover::{Prover, shown};
use super::render::Render;
use super::tree::{Edits, Tree, resolve};
use super::yaml::line_of;
use super::{Edit, Entry, Place, Proof, Refusal, Stop, Wanted, ask, whole};

/// One object that is to change, and where that is written.
struct Job<'a> {
    wanted: &'a Wanted,
    target: Target,
    /// None for a new one.
    definition: Option<Definition>,
    /// One for each field; for a whole object that comes or goes, one without any.
    steps: Vec<Option<Change>>,
}

/// What was edited so far.
struct Draft {
    tree: Tree,
    edits: Edits,
    places: Vec<Place>,
}

/// Edits the source of every wanted object, all or none, and proves it: everything in the tree that can be rendered says
/// the same as before, but for these objects and in them these fields. The tree itself is not touched.
///
/// # Errors
/// When it must not be written, with what a person has to edit instead; or when it could not be tried.
pub fn edit(tree: &Tree, entry: &Entry, wanted: &[Wanted], render: &dyn Render) -> Result<Edit, Stop> {
    let entry = &entry.plain();
    let (mut prover, rendered) = begin(tree, entry, (wanted, render))?;
    let mut jobs = Vec::new();
    for wanted in wanted {
        jobs.push(job(&mut prover, entry, (&rendered, wanted))?);
    }
    jobs.retain(|job| !job.steps.is_empty());
    if jobs.is_empty() {
        return Ok(Edit::default());
    }
    match at_once(&mut prover, entry, &jobs)? {
        Some((draft, proof)) => Ok(Edit { files: draft.edits, places: draft.places, proof }),
        None => step_by_step(&mut prover, entry, &jobs),
    }
}

/// Whether the source says already what is wanted of each object; of one of which it does not, why.
///
/// # Errors
/// When it cannot be rendered, or it could not be tried.
pub fn says(
    tree: &Tree,
    entry: &Entry,
    wanted: &[Wanted],
    render: &dyn Render,
) -> Result<Vec<Result<(), Refusal>>, Stop> {
    let entry = &entry.plain();
    let (mut prover, rendered) = begin(tree, entry, (wanted, render))?;
    let mut said = Vec::new();
    for wanted in wanted {
        said.push(match job(&mut prover, entry, (&rendered, wanted)) {
            Ok(job) if job.steps.is_empty() => Ok(()),
            Ok(job) => Err(job.lacks(tree)),
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(Stop::Failed(error)) => return Err(Stop::Failed(error)),
        });
    }
    Ok(said)
}

/// What the engine renders of the tree, and what renders more of it.
fn begin<'a>(
    tree: &'a Tree,
    entry: &'a Entry,
    (wanted, render): (&[Wanted], &'a dyn Render),
) -> Result<(Prover<'a>, Vec<Value>), Stop> {
    if !tree.has_directory(&entry.path) {
        let why = format!("there is no directory {} in the repository", shown(&entry.path));
        return Err(Stop::refused(why, Vec::new()));
    }
    let mut prover = Prover::new(tree, entry, render)?;
    ask::reach(tree, &prover.graph, entry)?;
    match prover.entry_before()? {
        Ok(rendered) => Ok((prover, rendered)),
        Err(why) => {
            // That something is there twice is a common reason, and our words for it have the places.
            for wanted in wanted {
                find::once(tree, &prover.graph, (&entry.path, &entry.spec), &wanted.object)?;
            }
            Err(Stop::refused(format!("{} cannot be rendered: {why}", shown(&entry.path)), Vec::new()))
        }
    }
}

/// Proves an edit that somebody made: that it says all that is wanted, and nothing else in the tree says anything else.
///
/// # Errors
/// What differs that must not, or does not and must; or that it could not be tried.
pub fn prove(
    tree: &Tree,
    entry: &Entry,
    (wanted, edits): (&[Wanted], &Edits),
    render: &dyn Render,
) -> Result<Proof, Stop> {
    let entry = &entry.plain();
    let mut prover = Prover::new(tree, entry, render)?;
    let rendered = prover.entry_before()?.map_err(|why| Stop::refused(why, Vec::new()))?;
    let mut targets = Vec::new();
    for wanted in wanted {
        let job = job(&mut prover, entry, (&rendered, wanted))?;
        targets.push(job.steps.iter().flatten().try_fold(job.target.clone(), |target, change| target.with(change))?);
    }
    prover.prove(edits, &targets)?.map_err(|why| Stop::refused(why, Vec::new()))
}

/// What has to be done for one object, after everything that can be said without an edit.
fn job<'a>(
    prover: &mut Prover<'_>,
    entry: &Entry,
    (rendered, wanted): (&[Value], &'a Wanted),
) -> Result<Job<'a>, Stop> {
    let now = rendered.iter().find(|object| is_it(&id_of(object), &wanted.object));
    let object = wanted.object.clone();
    let find = |prover: &Prover<'_>| find::find(prover.tree, &prover.graph, (&entry.path, &entry.spec), &wanted.object);
    ask::kind(wanted)?;
    let (target, definition, steps) = match (now, &wanted.before, &wanted.after) {
        (None, _, None) => (Target { object, before: None, after: None, changes: Vec::new() }, None, Vec::new()),
        (None, None, Some(after)) => {
            let after = Some(whole::new_object(after));
            (Target { object, before: None, after, changes: Vec::new() }, None, vec![None])
        }
        (Some(now), _, None) => {
            let definition = find(prover)?;
            ask::encrypted(prover.tree, &definition)?;
            (
                Target { object, before: Some(now.clone()), after: None, changes: Vec::new() },
                Some(definition),
                vec![None],
            )
        }
        (Some(now), before, Some(after)) => {
            let (before, after) = match before {
                Some(before) => (before, after.clone()),
                // It was new, and Git says it by now: what the server filled in is no difference.
                None => (now, whole::new_object(after)),
            };
            let definition = || find(prover);
            let due = ask::due((now, before, &after), (prover.tree, &wanted.object, &entry.spec), &definition)?;
            if !due.is_empty() {
                let plain = prover.entry_without_spec()?.unwrap_or_default();
                ask::spec((now, &plain), (&wanted.object, &entry.spec), &due)?;
                ask::encrypted(prover.tree, &find(prover)?)?;
            }
            let target = Target { object, before: Some(now.clone()), after: Some(now.clone()), changes: Vec::new() };
            let definition = if due.is_empty() { None } else { Some(find(prover)?) };
            (target, definition, due.into_iter().map(Some).collect())
        }
        (None, Some(_), Some(_)) => {
            // Its definition, or what is there instead of one, is what a person wants to see.
            let found = find(prover)?;
            let place = format!("{}: it is defined here, and not rendered", found.file.display());
            return Err(Stop::refused(format!("{} does not render {object}", shown(&entry.path)), vec![place]));
        }
    };
    Ok(Job { wanted, target, definition, steps })
}

impl Job<'_> {
    /// What the source does not say, and where it would.
    fn lacks(&self, tree: &Tree) -> Refusal {
        let object = &self.wanted.object;
        let place = |path: &[Step]| self.definition.as_ref().map(|definition| definition.place(tree, path));
        let lacking: Vec<&Change> = self.steps.iter().flatten().collect();
        let fields: Vec<String> = lacking.iter().map(|change| pointer(&change.path)).collect();
        let why = match (&lacking[..], &self.wanted.after) {
            ([], None) => format!("Git still has {object}"),
            ([], Some(_)) => format!("Git has no {object}"),
            ([_, ..], _) => format!("Git does not say so of {} in {object}", fields.join(", ")),
        };
        let places = if lacking.is_empty() {
            place(&[]).into_iter().collect()
        } else {
            lacking.iter().filter_map(|change| place(&change.path)).collect()
        };
        Refusal { why, places }
    }
}

impl Target {
    /// The target with one change more.
    fn with(&self, change: &Change) -> Result<Self, Stop> {
        let mut target = self.clone();
        let after = target.after.get_or_insert(Value::Null);
        if !super::field::put(after, &change.path, change.to.as_ref()) {
            let why = format!("Git says nothing of {} in {}", pointer(&change.path), self.object);
            return Err(Stop::refused(
                why,
                vec!["what is there in the cluster alone cannot be changed in Git".to_owned()],
            ));
        }
        target.changes.push(change.clone());
        Ok(target)
    }
}

/// The edits that may do one step, in the tree as it was left by those before it.
fn step_tries(
    prover: &Prover<'_>,
    entry: &Path,
    (job, target): (&Job<'_>, &Target),
    ground: (&Tree, Option<&Change>),
) -> Vec<Try> {
    let (tree, change) = ground;
    let Some(definition) = &job.definition else {
        let object = (job.wanted.after.as_ref().unwrap_or(&Value::Null), job.wanted.path.as_deref());
        return vec![whole::create(tree, &prover.graph, entry, object)];
    };
    let rendered = job.target.before.as_ref().unwrap_or(&Value::Null);
    let wanted = target.after.as_ref().unwrap_or(rendered);
    let name = &job.target.object.name;
    let ground = Ground { tree, graph: &prover.graph, entry, definition, name, rendered, wanted };
    change.map_or_else(|| whole::remove(&ground), |change| tries(&ground, change))
}

/// The likeliest edit of every step, proven together: mostly right, and rendered once.
fn at_once(prover: &mut Prover<'_>, entry: &Entry, jobs: &[Job<'_>]) -> Result<Option<(Draft, Proof)>, Stop> {
    let mut draft = Draft::of(prover.tree);
    let mut targets = Vec::new();
    for job in jobs {
        let mut target = job.target.clone();
        for change in &job.steps {
            target = change.as_ref().map_or_else(|| Ok(target.clone()), |change| target.with(change))?;
            let all = step_tries(prover, &entry.path, (job, &target), (&draft.tree, change.as_ref()));
            let Some((one, edits)) = all.iter().find_map(|one| Some((one, one.edits.clone().ok()?))) else {
                return Ok(None);
            };
            draft.take(one, (&edits, change.as_ref()));
        }
        targets.push(target);
    }
    Ok(prover.prove(&draft.edits, &targets)?.ok().map(|proof| (draft, proof)))
}

/// Every step proven by itself, the next edit tried where one does not pass.
fn step_by_step(prover: &mut Prover<'_>, entry: &Entry, jobs: &[Job<'_>]) -> Result<Edit, Stop> {
    let mut draft = Draft::of(prover.tree);
    let mut targets: Vec<Target> = Vec::new();
    let mut proof = Proof::default();
    for job in jobs {
        targets.push(job.target.clone());
        for change in &job.steps {
            let target = change
                .as_ref()
                .map_or_else(|| Ok(job.target.clone()), |change| targets[targets.len() - 1].with(change))?;
            let last = targets.len() - 1;
            targets[last] = target;
            let all = step_tries(prover, &entry.path, (job, &targets[last]), (&draft.tree, change.as_ref()));
            let mut failed = Vec::new();
            let mut found = None;
            for one in &all {
                let tried = match &one.edits {
                    Ok(edits) => {
                        let mut together = draft.edits.clone();
                        together.extend(edits.clone());
                        prover.prove(&together, &targets)?.map(|proof| (one, edits.clone(), proof))
                    }
                    Err(why) => Err(why.clone()),
                };
                match tried {
                    Ok(passed) => {
                        found = Some(passed);
                        break;
                    }
                    Err(why) => failed.push((one, why)),
                }
            }
            let Some((one, edits, proven)) = found else {
                return Err(ask::nothing_passes(&draft.tree, (&job.wanted.object, change.as_ref()), &failed));
            };
            draft.take(one, (&edits, change.as_ref()));
            proof = proven;
        }
    }
    Ok(Edit { files: draft.edits, places: draft.places, proof })
}

impl Entry {
    /// With its path as the files of the tree have it: Flux takes `./apps` and `/apps` as well.
    fn plain(&self) -> Self {
        let said = self.path.to_string_lossy();
        let path = resolve(Path::new(""), said.trim_start_matches('/')).unwrap_or_else(|| self.path.clone());
        Self { path, spec: self.spec.clone() }
    }
}

/// The first line that is another one, counted from one.
fn first_difference(old: &str, new: &str) -> usize {
    old.lines().zip(new.lines()).take_while(|(old, new)| old == new).count() + 1
}

impl Draft {
    fn of(tree: &Tree) -> Self {
        Self { tree: tree.clone(), edits: Edits::new(), places: Vec::new() }
    }

    fn take(&mut self, one: &Try, (edits, change): (&Edits, Option<&Change>)) {
        let old = self.tree.read(&one.file).unwrap_or_default();
        let line = match edits.get(&one.file) {
            Some(Some(new)) if !old.is_empty() => first_difference(&old, new),
            Some(Some(new)) => line_of(new, one.document, &one.path),
            Some(None) | None => line_of(&old, one.document, &one.path),
        };
        let pointer = change.map_or_else(String::new, |change| pointer(&change.path));
        self.places.push(Place { path: one.file.clone(), line, pointer });
        self.tree = self.tree.with(edits.clone());
        self.edits.extend(edits.clone());
    }
}
