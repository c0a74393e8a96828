//! `operator/backup/`: a backup of the running gateway.

use std::path::PathBuf;
use std::sync::Arc;

use chelseru_domain::operator::audit::{AuditEvent, AuditKind};
use http::StatusCode;
use serde_json::json;

use super::Operator;
use crate::fields::{Fields, Text};
use crate::reply::{Failure, Reply};
use crate::request::{Access, ByOperator, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/operator/backup/",
    name: "Backup",
    access: Access::Operator,
    kind: Kind::Plain,
    operations: &[Operation {
        verb: Verb::Post,
        id: "backup",
        call: call!(backup),
        about: About {
            summary: "Write a backup of the store, the key, the plugins and the uploaded files",
            parameters: &[],
            fields: &[Field(
                "folder",
                Is::Text,
                "An absolute path on this machine, which must not exist yet.",
            )],
            answers: &[(200, "Copied")],
        },
    }],
}];

/// `POST operator/backup/`: `folder`, an absolute path. Continues when the client disconnects.
async fn backup(operator: Arc<Operator>, request: Request<ByOperator, Fields>) -> Answer {
    operator.admit(&request)?;
    let mut fields = request.body;
    let folder = fields.required("folder", Text { chars_max: 4096 });
    let folder = PathBuf::from(fields.all(folder)?);
    if !folder.is_absolute() {
        return Err(Failure::field("folder", "Must be an absolute path."));
    }
    match operator.backups.write(&folder).await {
        Ok(copied) => {
            let event = AuditEvent::new(AuditKind::BackupWritten).subject(folder.display()).detail(copied);
            operator.identity.audit().record(event);
            Ok(Reply::json(StatusCode::OK, &json!({"records": copied.records, "files": copied.files})))
        }
        Err(reason) => {
            tracing::warn!(%reason, "a backup was not written");
            Err(Failure::details(StatusCode::BAD_REQUEST, "backup_failed", reason))
        }
    }
}
