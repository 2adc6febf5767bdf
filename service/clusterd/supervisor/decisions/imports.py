"""What each event does to a template, or to a spare, in each state: `TEMPLATE_REACTIONS`."""

from clusterd.supervisor import events
from clusterd.supervisor.actions import Severity
from clusterd.supervisor.decisions import first_start, rollout
from clusterd.supervisor.model.cluster import ClusterState, Phase
from clusterd.supervisor.model.states import TemplateState
from clusterd.supervisor.model.table import Template
from clusterd.supervisor.reactions import Reaction, ignored, reactions


def import_failed(
    cluster: ClusterState, template: Template, reason: str, what: str = "application", *, permanent: bool = False
) -> None:
    """The rollout of the template's generation fails, or an attempt of the first start."""
    if cluster.rollout is not None and cluster.rollout.generation == template.generation:
        rollout.withdraw(cluster, reason)
    elif cluster.phase is Phase.STARTING:
        first_start.failed(cluster, f"the {what} could not be loaded: {reason}", permanent=permanent)


def _loaded(_: ClusterState, template: Template, __: events.TemplateLoaded) -> None:
    template.move(TemplateState.LOADED)


def _failed(cluster: ClusterState, template: Template, failed: events.TemplateFailed) -> None:
    cluster.end_template(template)
    import_failed(cluster, template, failed.reason, failed.what, permanent=failed.permanent)


def _unforkable(cluster: ClusterState, template: Template, unforkable: events.TemplateUnforkable) -> None:
    cluster.note(
        Severity.WARNING,
        "not preloaded, each worker imports the application itself (preload: false saves the attempt): "
        + "; ".join(unforkable.findings),
        generation=template.generation,
    )
    cluster.end_template(template)
    generation = cluster.table.generations[template.generation]
    generation.preloaded = False
    cluster.start_template(generation)


def _spare_ready(_: ClusterState, template: Template, __: events.SpareReady) -> None:
    template.move(TemplateState.SPARE)


def _ended(cluster: ClusterState, template: Template, _: events.TemplateGone) -> None:
    del cluster.table.templates[template.serial]


def _died_importing(cluster: ClusterState, template: Template, gone: events.TemplateGone) -> None:
    _ended(cluster, template, gone)
    import_failed(cluster, template, f"the template died while it imported the application: {gone.how}")


def _template_died(cluster: ClusterState, template: Template, gone: events.TemplateGone) -> None:
    _died(cluster, template, gone, "template")


def _spare_died(cluster: ClusterState, template: Template, gone: events.TemplateGone) -> None:
    _died(cluster, template, gone, "spare template")


def _died(cluster: ClusterState, template: Template, gone: events.TemplateGone, what: str) -> None:
    _ended(cluster, template, gone)
    cluster.note(Severity.WARNING, f"{what} died: {gone.how}", generation=template.generation)
    if cluster.phase is Phase.STARTING and not cluster.table.has_template(cluster.serving):
        first_start.failed(cluster, f"{what} died: {gone.how}", permanent=False)


_COLUMNS = (
    TemplateState.LOADING,
    TemplateState.LOADED,
    TemplateState.SPARE_COMING,
    TemplateState.SPARE,
    TemplateState.ENDING,
)

# fmt: off
_ROWS: dict[type[events.Event], tuple[Reaction, ...]] = {
    # event                       LOADING          LOADED           SPARE_COMING     SPARE            ENDING
    events.TemplateLoaded:       (_loaded,         ignored,         ignored,         ignored,         ignored),
    events.TemplateFailed:       (_failed,         ignored,         ignored,         ignored,         ignored),
    events.TemplateUnforkable:   (_unforkable,     ignored,         ignored,         ignored,         ignored),
    events.SpareReady:           (ignored,         ignored,         _spare_ready,    ignored,         ignored),
    events.TemplateGone:         (_died_importing, _template_died,  _spare_died,     _spare_died,     _ended),
}
# fmt: on

TEMPLATE_REACTIONS = reactions(_COLUMNS, _ROWS)
"""By event, and by the state that the template has when the event comes."""
