//! A candidate: a configuration with everything it needs, prepared as a whole and taken over as a whole.
//!
//! [`Candidate::prepare`] does everything that can fail (token keys, webhook endpoints and secrets, plugins, rules of
//! payment gateways, open payments) and changes nothing. [`Candidate::take_over`] cannot fail. `serve`, reload and
//! `check` all prepare here, so `check` accepts exactly what `serve` accepts, and a refused edit changes nothing. A
//! damaged component does not stop a start, but refuses an edit that would replace a working one ([`Occasion`]). A
//! gateway with open payments keeps its plugin ([`OpenPayments`]): a file that holds another one is refused for that
//! entry alone, and at a start, too ([`Candidate::keep_plugins`]). The domain's own rules are checked when the file is
//! read (`chelseru-config`).
//!
//! Not here: reading the file, recording the result of a change (`reload`), and the state of this machine
//! (`machine`).

use std::collections::BTreeMap;
use std::sync::Arc;

use chelseru_config::rules::{identity_rules, otp_rules, tokens};
use chelseru_domain::Checked;
use chelseru_domain::login::identity::IdentityRules;
use chelseru_domain::login::otp::OtpRules;
use chelseru_domain::login::token::Tokens;
use chelseru_domain::money::payment::gateway::PaymentGateways;
use chelseru_outbound::money::PluginPaymentGateways;
use chelseru_outbound::money::webhooks::Endpoints;
use chelseru_outbound::plugins;
use chelseru_outbound::sms::sms_route;
use chelseru_plugin_host::{Desired, Failure, PluginPin, PluginPins, Prepared};
use chelseru_sockets::Notes;
use chelseru_store::StoreError;

use crate::config::{Config, Loaded, Problem, Problems};
use crate::generation::Parts;
use crate::ground::{Ground, Standing};
use crate::live::Live;
use crate::login::Services;

/// Everything a configuration needs to serve. Dropping it changes nothing.
pub(crate) struct Candidate {
    config: Config,
    warnings: Vec<Problem>,
    otp: Checked<OtpRules>,
    identity: Checked<IdentityRules>,
    tokens: Tokens,
    endpoints: Arc<Endpoints>,
    gateways: PluginPaymentGateways,
    desired: Vec<Desired>,
    prepared: Prepared,
}

impl Candidate {
    /// Prepares a configuration.
    ///
    /// Errors: all problems, each with its line.
    pub(crate) async fn prepare(
        ground: &Ground,
        loaded: Loaded,
        open: &OpenPayments,
        occasion: Occasion,
    ) -> Result<Candidate, Problems> {
        let mut problems = Vec::new();
        let mut note = |refused: Problems| problems.extend(refused.0);
        let tokens = tokens(&loaded, &ground.key).map_err(&mut note).ok();
        let endpoints = Endpoints::load(&loaded).map_err(&mut note).ok();
        let desired = plugins::desired(&loaded, &ground.plugins_dir).map_err(&mut note).unwrap_or_default();
        let public = loaded.public_sandbox();
        loaded.start_sources().map_err(&mut note).ok();
        let prepared = ground.registry.prepare_pinned(&desired, &open.pins()).await;
        note(match occasion {
            Occasion::Start => plugins::problems(&loaded.source, prepared.start_refusals()),
            Occasion::Edit => plugins::problems(&loaded.source, prepared.edit_refusals()),
        });
        let gateways = PluginPaymentGateways::load(&loaded.config, prepared.providers(), &ground.bank).await;
        let gateways = gateways.map_err(|refused| note(at_entries(&loaded, refused))).ok();
        problems.extend(public);
        if let Some(gateways) = &gateways
            && problems.is_empty()
        {
            problems
                .extend(open.left_alone_by(gateways).map(|(name, reason)| at_entry(&loaded, &name, reason)));
        }
        let (otp, identity) =
            (Checked::new(otp_rules(&loaded.config)), Checked::new(identity_rules(&loaded.config)));
        match (tokens, endpoints, gateways, otp, identity) {
            (Some(tokens), Some(endpoints), Some(gateways), Ok(otp), Ok(identity)) if problems.is_empty() => {
                let secrets = plugins::literal_secrets(&loaded, prepared.providers());
                let degraded = plugins::degraded(&loaded.source, prepared.failures());
                let Loaded { config, mut warnings, .. } = loaded;
                warnings.extend(secrets.into_iter().chain(degraded));
                let endpoints = Arc::new(endpoints);
                Ok(Candidate {
                    config,
                    warnings,
                    otp,
                    identity,
                    tokens,
                    endpoints,
                    gateways,
                    desired,
                    prepared,
                })
            }
            (_, _, _, otp, identity) => {
                // Reading the file has already refused these, at the line of their key.
                let rules = [otp.err(), identity.err()].into_iter().flatten();
                problems.extend(rules.map(|error| loaded.source.problem("auth", None, error.to_string())));
                problems.sort_by_key(|problem| problem.line);
                Err(Problems(problems))
            }
        }
    }

    /// At a start: gives open payments to no other plugin than the one that served last, as far as its component is
    /// kept. Such an entry serves the kept one, as it would in place of a damaged file.
    ///
    /// Errors: a text for the operator, when the open payments cannot be read or the kept plugin does not fit the
    /// configuration.
    pub(crate) async fn keep_plugins(
        self,
        ground: &Ground,
        open: impl AsyncFnOnce(&PluginPaymentGateways) -> Result<OpenPayments, StoreError>,
    ) -> Result<Candidate, String> {
        // Usually nothing was exchanged while the gateway was down, and nothing is read.
        let replaced = ground.registry.replaced(&self.prepared).await;
        if replaced.is_empty() {
            return Ok(self);
        }
        let open = open(&self.gateways).await.map_err(|error| error.to_string())?;
        let open = open.0.into_iter().filter(|(name, _)| replaced.contains(name));
        let pins: PluginPins = open.map(|(name, waiting)| (name, waiting.pin(None))).collect();
        if pins.is_empty() {
            return Ok(self);
        }
        let prepared = ground.registry.prepare_pinned(&self.desired, &pins).await;
        let refused = prepared.start_refusals().map(|one| format!("provider.{}: {}", one.name, one.error));
        let refused: Vec<String> = refused.collect();
        if !refused.is_empty() {
            return Err(refused.join("\n"));
        }
        let gateways = PluginPaymentGateways::load(&self.config, prepared.providers(), &ground.bank).await;
        let gateways = gateways.map_err(|refused| entries(&refused))?;
        Ok(Candidate { gateways, prepared, ..self })
    }

    /// Prepares the serving configuration again with the current plugin files. An entry whose plugin is refused keeps
    /// its loaded one.
    ///
    /// Errors: the reason why no plugin may be replaced.
    pub(crate) async fn prepare_plugins(
        ground: &Ground,
        live: &Live,
        desired: Vec<Desired>,
        open: &OpenPayments,
    ) -> Result<Candidate, String> {
        let prepared = ground.registry.prepare_pinned(&desired, &open.pins()).await;
        let gateways = PluginPaymentGateways::load(&live.config, prepared.providers(), &ground.bank).await;
        let refused = match &gateways {
            Ok(gateways) => open.left_alone_by(gateways).collect(),
            Err(refused) => refused.clone(),
        };
        let rules = Checked::new(otp_rules(&live.config))
            .and_then(|otp| Ok((otp, Checked::new(identity_rules(&live.config))?)));
        match (gateways, rules) {
            (Ok(gateways), Ok((otp, identity))) if refused.is_empty() => Ok(Candidate {
                config: live.config.clone(),
                warnings: Vec::new(),
                otp,
                identity,
                tokens: live.identity.tokens().clone(),
                endpoints: live.endpoints.clone(),
                gateways,
                desired,
                prepared,
            }),
            (_, rules) => {
                ground.registry.refuse(prepared);
                let rules = rules.err().map(|error| error.to_string());
                let entries = Some(entries(&refused)).filter(|entries| !entries.is_empty());
                Err(entries.into_iter().chain(rules).collect::<Vec<_>>().join("; "))
            }
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Warnings about an accepted configuration.
    pub(crate) fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The providers that would serve.
    pub(crate) fn providers(&self) -> &plugins::Providers {
        self.prepared.providers()
    }

    /// Entries whose plugin was refused.
    pub(crate) fn failures(&self) -> &[Failure] {
        self.prepared.failures()
    }

    pub(crate) fn gateways(&self) -> &PluginPaymentGateways {
        &self.gateways
    }

    /// Returns true when some endpoint receives events.
    pub(crate) fn wants_events(&self) -> bool {
        !self.endpoints.is_empty()
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Takes over: providers, log level, rules and generation. Cannot fail.
    ///
    /// The previous services keep their in-memory state.
    #[must_use]
    pub(crate) fn take_over(self, standing: &Standing, before: &Services) -> (Live, Vec<Desired>) {
        let Candidate { config, otp, identity, tokens, endpoints, gateways, desired, prepared, .. } = self;
        let Standing { registry, log, metrics, inbox, chat, sockets, sms_queue, gates, shared, .. } =
            standing;
        let served = registry.snapshot();
        let providers = registry.commit(prepared);
        for (name, provider) in providers.iter() {
            if served.get(name).is_some_and(|before| !Arc::ptr_eq(before, provider)) {
                shared.services.payments.gateway_changed(name);
            }
        }
        log.set_level(config.log.level);
        if !config.sandbox_selected() {
            inbox.clear();
        }
        chat.set_rules(config.chat.rules());
        let Services { otp, identity } = before.under(otp, identity, tokens, config.audit.records_max);
        sockets.set_identity(identity.clone());
        sockets.hub.note_news(match endpoints.wants_news() {
            (false, _) => Notes::Nothing,
            (true, false) => Notes::WithoutText,
            (true, true) => Notes::WithText,
        });
        let sms = Arc::new(sms_route(&config, &providers, sms_queue, gates, inbox, metrics.as_ref()));
        let parts = Parts { identity, otp, sms, gateways: Arc::new(gateways) };
        (Live::new(shared, config, parts, endpoints), desired)
    }
}

/// What a candidate is prepared for; it decides what a refused component does.
#[derive(Clone, Copy)]
pub(crate) enum Occasion {
    /// Nothing serves yet: such an entry gets its last good component, or is down.
    Start,
    /// Something serves: the edit is refused, unless the entry failed before and loses nothing.
    Edit,
}

/// What is wrong with entries, as one text.
fn entries(refused: &[(String, String)]) -> String {
    let texts = refused.iter().map(|(name, reason)| format!("provider.{name}: {reason}"));
    texts.collect::<Vec<_>>().join("; ")
}

fn at_entry(loaded: &Loaded, name: &str, reason: String) -> Problem {
    loaded.source.problem(&format!("provider.{name}"), None, reason)
}

fn at_entries(loaded: &Loaded, refused: Vec<(String, String)>) -> Problems {
    Problems(refused.into_iter().map(|(name, reason)| at_entry(loaded, &name, reason)).collect())
}

/// Open payments per gateway. Each gateway is pinned to the plugin that began them.
#[derive(Debug, Default)]
pub(crate) struct OpenPayments(pub(crate) BTreeMap<String, Waiting>);

/// Open payments and reversals of one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// The plugin that serves it.
    pub(crate) plugin: String,
    pub(crate) payments: usize,
    /// Pending reversals.
    pub(crate) reversals: usize,
}

impl Waiting {
    /// What is open, as the end of a refusal.
    fn why(&self) -> String {
        let reversals = match self.reversals {
            0 => String::new(),
            count => format!(" and {count} pending reversals"),
        };
        format!("while it has {} open payments{reversals}", self.payments)
    }

    fn pin(&self, plugin: Option<String>) -> PluginPin {
        PluginPin { plugin, why: self.why() }
    }
}

impl OpenPayments {
    /// Holds each gateway to the plugin that serves it.
    fn pins(&self) -> PluginPins {
        let pin =
            |(name, waiting): (&String, &Waiting)| (name.clone(), waiting.pin(Some(waiting.plugin.clone())));
        self.0.iter().map(pin).collect()
    }

    /// Gateways whose open payments would lose their plugin, with the reason.
    pub(crate) fn left_alone_by(
        &self,
        gateways: &PluginPaymentGateways,
    ) -> impl Iterator<Item = (String, String)> {
        let refusal = |(name, waiting): (&String, &Waiting)| {
            let old = &waiting.plugin;
            let change = match gateways.by_name(name) {
                Some(gateway) if gateway.plugin() == old => return None,
                Some(gateway) => format!("cannot change its plugin from {old} to {}", gateway.plugin()),
                None => "cannot be removed".to_owned(),
            };
            Some((name.clone(), format!("{change} {}", waiting.why())))
        };
        self.0.iter().filter_map(refusal).collect::<Vec<_>>().into_iter()
    }
}
