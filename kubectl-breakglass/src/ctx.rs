//! Ctx: what a command needs. First argument of every command.

use std::future::Future;

use breakglass::api::Timestamp;
use chrono::{DateTime, Utc};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, PostParams};

use crate::cli::{GlobalFlags, Output};
use crate::connect::Connection;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::print::{Input, Printer};

/// What a command needs: the cluster, the clock, where to print.
pub struct Ctx<'a> {
    /// kubectl's own flags.
    pub flags: GlobalFlags,
    /// The cluster.
    pub cluster: Connection,
    /// Where to print.
    pub printer: &'a mut Printer,
    /// Where answers come from.
    pub input: Input,
}

impl Ctx<'_> {
    /// This machine's clock.
    pub fn now(&self) -> DateTime<Utc> {
        Timestamp::new(Utc::now()).instant()
    }

    /// How to print, where the command has no habit of its own.
    pub fn output(&self) -> Output {
        self.flags.output()
    }

    /// Waits for an answer of the cluster, but not for ever, and says in words what went wrong.
    ///
    /// # Errors
    /// Whatever the cluster answers, explained; or that it did not answer.
    pub async fn ask<T>(&self, doing: Doing, request: impl Future<Output = kube::Result<T>>) -> Result<T> {
        self.cluster.ask(doing, request).await
    }

    /// The name under which the API server knows me.
    ///
    /// # Errors
    /// Whatever the cluster answers, explained.
    pub async fn who_am_i(&self) -> Result<String> {
        let api = Api::<SelfSubjectReview>::all(self.cluster.client.clone());
        let (params, question) = (PostParams::default(), SelfSubjectReview::default());
        let answer = self.ask(Doing::Asking("who you are"), api.create(&params, &question)).await?;
        let user = answer.status.and_then(|status| status.user_info).and_then(|user| user.username);
        user.ok_or_else(|| CommandError::failed("the cluster does not say who you are").hint("kubectl auth whoami"))
    }
}
