//! What `kubectl kustomize` makes of a directory: the program that the cluster's people have, with its own load restrictor.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::yaml;

/// From a directory with a kustomization to the objects that it says.
pub trait Render: Sync {
    /// The objects, in the order of the output.
    ///
    /// # Errors
    /// What the program said.
    fn render(&self, root: &Path, directory: &Path) -> Result<Vec<Value>, String>;
}

/// The real one.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
}

impl Kubectl {
    /// The kubectl at this path, or of this name on the PATH.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

impl Render for Kubectl {
    fn render(&self, root: &Path, directory: &Path) -> Result<Vec<Value>, String> {
        let out = Command::new(&self.program)
            .arg("kustomize")
            .arg(root.join(directory))
            // Plugins and remote bases may run programs of the environment; there is nothing for them to ask.
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{} cannot be run: {error}", self.program.display()))?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            // Its paths are those of a copy that is gone when somebody reads this.
            let said = said.replace(&format!("{}/", root.display()), "").replace("error: ", "");
            return Err(said.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        yaml::objects(&String::from_utf8_lossy(&out.stdout))
    }
}
