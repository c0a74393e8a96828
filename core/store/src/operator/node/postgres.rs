//! The operations of this folder, in PostgreSQL statements.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use crate::StoreError;
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Lock;
use crate::engine::postgres::value::{Columns, Text, int};
use crate::money::outbox::postgres::WANT_STILL;
use crate::operator::node::{NODES_MAX, Node, NodeFacts, Task};

const SEEN: &str = "
    update node 
    set seen_at = clock_timestamp(), name = $2, generation = $3, config = $4, components = $5, edit = $6,
        wants_events = $7
    where instance = $1";

/// Its slot is free again, and what it held is free at the end of its time.
const FORGET: &str = "delete from node where seen_at < clock_timestamp() - interval '1 minute'";

const FREE_SLOT: &str = "
    select free as slot from generate_series(0, $1::bigint - 1) as free
    where not exists (select from node where slot = free) order by free limit 1";

const ENTER: &str = "
    insert into node (instance, name, generation, config, components, edit, wants_events, slot)
    values ($1, $2, $3, $4, $5, $6, $7, $8::bigint::smallint)";

const NODES: &str = "
    select instance, slot::bigint as slot, name, generation, config, components, edit,
        (extract(epoch from clock_timestamp() - started_at) * 1000)::bigint as up_ms,
        greatest(0, (extract(epoch from clock_timestamp() - seen_at) * 1000)::bigint) as silent_ms
    from node where seen_at > clock_timestamp() - $1::bigint * interval '1 millisecond' order by slot";

const RENEW: &str = "
    insert into lease as held (task, holder, until)
    select task, $2, clock_timestamp() + $3::bigint * interval '1 millisecond' from unnest($1::text[]) as task
    order by task
    on conflict (task) do update set holder = excluded.holder, until = excluded.until
    where held.holder = excluded.holder or held.until < clock_timestamp()
    returning task";

impl Postgres {
    /// One statement, and another one where events are wanted; the first time, the slots are locked, too.
    pub(crate) async fn node_seen(&self, facts: NodeFacts, keep: Duration) -> Result<Vec<Node>, StoreError> {
        let (instance, wants_events) = (self.shared.instance, *self.shared.wants_events() == Some(true));
        self.change(facts, move |sql, facts| {
            Box::pin(async move {
                let NodeFacts { name, generation, config, components, edit } = facts;
                let (name, config, components) = (Text(name), Text(config), Text(components));
                let (generation, edit) = (int(*generation), int(*edit));
                let told: [&(dyn ToSql + Sync); 7] =
                    [&instance, &name, &generation, &config, &components, &edit, &wants_events];
                let seen = sql.run(SEEN, &told).await?;
                if seen == 0 {
                    sql.lock(Lock::Nodes, 0).await?;
                    sql.run(FORGET, &[]).await?;
                    let free = sql.found(FREE_SLOT, &[&int(NODES_MAX)]).await?;
                    let Some(slot) = free.map(|row| row.get::<_, i64>("slot")) else {
                        let reason = format!("{NODES_MAX} gateways share the database already");
                        return Err(StoreError::InUse { reason });
                    };
                    let [a, b, c, d, e, f, g] = told;
                    sql.run(ENTER, &[a, b, c, d, e, f, g, &slot]).await?;
                }
                if wants_events {
                    sql.run(WANT_STILL, &[]).await?;
                }
                let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
                let rows = sql.rows(NODES, &[&keep]).await?;
                Ok(rows
                    .iter()
                    .map(|row| Node {
                        slot: row.uint("slot"),
                        facts: NodeFacts {
                            name: row.text("name"),
                            generation: row.uint("generation"),
                            config: row.text("config"),
                            components: row.text("components"),
                            edit: row.uint("edit"),
                        },
                        up: Duration::from_millis(row.uint("up_ms")),
                        silent: Duration::from_millis(row.uint("silent_ms")),
                        own: row.get::<_, uuid::Uuid>("instance") == instance,
                    })
                    .collect())
            })
        })
        .await
    }

    /// Two statements.
    pub(crate) async fn node_leave(&self) -> Result<(), StoreError> {
        let instance = self.shared.instance;
        self.change((), move |sql, ()| {
            Box::pin(async move {
                sql.run("delete from lease where holder = $1", &[&instance]).await?;
                sql.run("delete from node where instance = $1", &[&instance]).await?;
                Ok(())
            })
        })
        .await
    }

    /// One statement, which locks the leases in the order of their names.
    pub(crate) async fn leases_renew(&self, keep: Duration) -> Result<Vec<Task>, StoreError> {
        let instance = self.shared.instance;
        // Without endpoints it would assign events to none, and they would count as told.
        let tells = self.shared.is_alone() || *self.shared.wants_events() != Some(false);
        self.change((), move |sql, ()| {
            Box::pin(async move {
                let tasks = Task::ALL.iter().filter(|task| tells || **task != Task::Webhooks);
                let tasks: Vec<&str> = tasks.map(|task| task.as_str()).collect();
                let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
                let rows = sql.rows(RENEW, &[&tasks, &instance, &keep]).await?;
                let held: Vec<String> = rows.iter().map(|row| row.text("task")).collect();
                Ok(Task::ALL
                    .into_iter()
                    .filter(|task| held.iter().any(|name| name == task.as_str()))
                    .collect())
            })
        })
        .await
    }
}
