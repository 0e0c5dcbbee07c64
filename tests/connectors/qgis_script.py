"""Run by the Python that has QGIS: open a layer, look at it, render it, write down what is there.

Not a test module: arguments are the GeoPackage, the layer and a folder for the answer.
"""

import json
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsDateTimeRange,
    QgsExpression,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsFeatureRequest,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsRectangle,
    QgsRenderContext,
    QgsUnitTypes,
    QgsVectorLayer,
    QgsVectorLayerTemporalContext,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

STEP_SECONDS = 300


def open_as_the_desktop(path: str, name: str) -> QgsVectorLayer:
    """Return the layer with its default style; the bare constructor resets the time settings."""
    layer = QgsVectorLayer(f"{path}|layername={name}", name, "ogr")
    layer.loadDefaultStyle()
    return layer


def describe_time(layer: QgsVectorLayer) -> "dict[str, object]":
    time = layer.temporalProperties()
    seconds = QgsUnitTypes.fromUnitToUnitFactor(time.durationUnits(), QgsUnitTypes.TemporalSeconds)
    return {
        "active": time.isActive(),
        "field": time.startField(),
        "seconds": time.fixedDuration() * seconds,
    }


def frames(layer: QgsVectorLayer) -> "list[QgsDateTimeRange]":
    field = layer.fields().indexOf(layer.temporalProperties().startField())
    start, last = layer.minimumValue(field), layer.maximumValue(field)
    count = start.secsTo(last) // STEP_SECONDS + 1
    starts = [start.addSecs(STEP_SECONDS * i) for i in range(count)]
    return [QgsDateTimeRange(at, at.addSecs(STEP_SECONDS), True, False) for at in starts]


def count_rows(layer: QgsVectorLayer, span: QgsDateTimeRange) -> int:
    context = QgsVectorLayerTemporalContext()
    context.setLayer(layer)
    text = layer.temporalProperties().createFilterString(context, span)
    return sum(1 for _ in layer.getFeatures(QgsFeatureRequest().setFilterExpression(text)))


def render(layer: QgsVectorLayer, span: "QgsDateTimeRange | None", target: Path) -> None:
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setOutputSize(QSize(500, 400))
    settings.setBackgroundColor(QColor("white"))
    settings.setDestinationCrs(layer.crs())
    extent = QgsRectangle(layer.extent())
    extent.scale(1.2)
    settings.setExtent(extent)
    if span is not None:
        settings.setIsTemporal(True)
        settings.setTemporalRange(span)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(str(target))


def count_uncoloured(layer: QgsVectorLayer) -> int:
    renderer, context = layer.renderer().clone(), QgsRenderContext()
    renderer.startRender(context, layer.fields())
    context.expressionContext().appendScopes(
        QgsExpressionContextUtils.globalProjectLayerScopes(layer)
    )
    missing = sum(
        1 for row in layer.getFeatures() if renderer.symbolForFeature(row, context) is None
    )
    renderer.stopRender(context)
    return missing


def map_tip(layer: QgsVectorLayer) -> str:
    context = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    context.setFeature(next(layer.getFeatures()))
    return QgsExpression.replaceExpressionText(layer.mapTipTemplate(), context)


def main(path: str, name: str, folder: Path) -> None:
    messages = []
    QgsApplication.messageLog().messageReceived.connect(
        lambda text, tag, level: messages.append(f"{tag}: {text}")
    )
    layer = open_as_the_desktop(path, name)
    QgsProject.instance().addMapLayer(layer)
    fresh = QgsVectorLayer(f"{path}|layername={name}", name, "ogr")  # style without being asked
    spans = frames(layer) if layer.temporalProperties().isActive() else []
    for i in {0, len(spans) - 3} if spans else {0}:
        render(layer, spans[i] if spans else None, folder / f"frame{i}.png")
    aliases = [field.alias() for field in layer.fields() if field.name() == "speed"]
    renderer = fresh.renderer()
    answer = {
        "valid": layer.isValid(),
        "features": layer.featureCount(),
        "renderer": renderer.type(),
        "classes": len(renderer.ranges()) if renderer.type() == "graduatedSymbol" else 1,
        "temporal": describe_time(layer),
        "rows_per_frame": [count_rows(layer, span) for span in spans],
        "uncoloured": count_uncoloured(layer),
        "attribution": layer.metadata().rights(),
        "alias": aliases[0] if aliases else None,
        "styles": layer.listStylesInDatabase()[0],
        "tip": map_tip(layer),
        "messages": messages,
    }
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
