//! Runs kubectl, and our plugin, as one person types it: an environment of its own, every byte of the answer kept.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// kubectl (or a plugin of it) that runs as one person.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
    path: String,
    environment: Vec<(String, String)>,
    directory: Option<PathBuf>,
    first: Vec<String>,
}

/// What a program left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code, or 128 and the signal's number as a shell has it.
    pub status: i32,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
}

impl Kubectl {
    /// The kubectl in `bin`, with `home` as HOME and the current context of `kubeconfig` as the person.
    #[must_use]
    pub fn new(bin: &Path, home: &Path, kubeconfig: &Path) -> Self {
        Self {
            program: bin.join("kubectl"),
            kubeconfig: kubeconfig.to_owned(),
            home: home.to_owned(),
            path: format!("{}:/usr/bin:/bin", bin.display()),
            environment: Vec::new(),
            directory: None,
            first: Vec::new(),
        }
    }

    /// The same person with another program, such as the plugin itself.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        self.program = program.to_owned();
        self
    }

    /// The same with one more environment variable; everything else but HOME, KUBECONFIG and PATH is empty.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same in another working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// The same with `-n name` before all other arguments.
    #[must_use]
    pub fn namespace(mut self, name: &str) -> Self {
        self.first = vec!["-n".to_owned(), name.to_owned()];
        self
    }

    /// The kubeconfig it runs with.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The command, not yet started, for a test that needs to hold it while it runs.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.first)
            .args(args)
            .env_clear()
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("PATH", &self.path)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// Runs it to its end, with nothing on standard input.
    ///
    /// # Panics
    /// When the program cannot be started at all.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_with_input(args, "")
    }

    /// Runs it to its end, with `input` on standard input.
    ///
    /// # Panics
    /// When the program cannot be started at all.
    #[must_use]
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Output {
        self.attempt(args, input).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs it and gives its standard output.
    ///
    /// # Panics
    /// When it exits with anything but 0: with what it said.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.ok_with_input(args, "")
    }

    /// Runs it with `input` on standard input and gives its standard output.
    ///
    /// # Panics
    /// When it exits with anything but 0: with what it said.
    #[track_caller]
    pub fn ok_with_input(&self, args: &[&str], input: &str) -> String {
        let output = self.run_with_input(args, input);
        assert!(output.status == 0, "{} {}\n{output}", self.program.display(), args.join(" "));
        output.stdout
    }

    /// Runs it with `-o json` and gives the object it prints.
    ///
    /// # Panics
    /// When it exits with anything but 0, or prints no JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// As [`Self::ok_with_input`], for those who do not want to panic.
    ///
    /// # Errors
    /// When it exits with anything but 0: with what it said.
    pub fn try_ok(&self, args: &[&str], input: &str) -> Result<String> {
        let output = self.attempt(args, input)?;
        if output.status != 0 {
            bail!("kubectl {}\n{output}", args.join(" "));
        }
        Ok(output.stdout)
    }

    fn attempt(&self, args: &[&str], input: &str) -> Result<Output> {
        run(self.command(args), input)
    }
}

/// Runs `command` to its end with `input` on standard input.
///
/// # Errors
/// When it cannot be started.
pub fn run(mut command: Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let mut stdin = child.stdin.take();
    let ended = std::thread::scope(|scope| {
        // From a thread: a program that answers while we still write would fill its pipe and wait for us.
        scope.spawn(move || {
            // A program may end without reading what it was given.
            let _ = stdin.as_mut().map(|stdin| stdin.write_all(input.as_bytes()));
        });
        child.wait_with_output()
    })?;
    Ok(Output::of(&ended))
}

impl Output {
    /// What a program that has ended left behind.
    pub(crate) fn of(ended: &std::process::Output) -> Self {
        let signal = std::os::unix::process::ExitStatusExt::signal(&ended.status).unwrap_or_default();
        Self {
            status: ended.status.code().unwrap_or(128 + signal),
            stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
        }
    }

    /// Why our webhook did not let it in, in its own words.
    ///
    /// # Panics
    /// When it was let in, or when somebody else refused it.
    #[track_caller]
    #[must_use]
    pub fn refusal(&self) -> &str {
        self.our_refusal().unwrap_or_else(|| panic!("this is no refusal of ours: {self}"))
    }

    /// The same, for those who wait for it.
    #[must_use]
    pub fn our_refusal(&self) -> Option<&str> {
        let (hook, words) = self.stderr.split_once("admission webhook \"")?.1.split_once("\" denied the request: ")?;
        (self.status == 1 && hook.ends_with(".breakglass.dev")).then(|| words.trim_end())
    }

    /// The warnings, a line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<&str> {
        self.stderr.lines().filter_map(|line| line.strip_prefix("Warning: ")).collect()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\n{}{}", self.status, self.stdout, self.stderr)
    }
}
