"""Run by the Python that has QGIS: open the layers of scenarios and write down what is drawn.

Not a test module: arguments are the GeoPackage and a folder for the answer.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
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
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

LAYERS = ("scenario_link_peak", "scenario_link", "scenario_edit", "scenario_isochrone")


def open_layer(path: str, name: str, where: str = "") -> QgsVectorLayer:
    """Return a layer with its default style."""
    layer = QgsVectorLayer(f"{path}|layername={name}", name, "ogr")
    layer.loadDefaultStyle()
    if where:
        layer.setSubsetString(where)
    QgsProject.instance().addMapLayer(layer)
    return layer


def drawn(layer: QgsVectorLayer, request: QgsFeatureRequest) -> "list[tuple[object, list[str]]]":
    """Return the rows that get a symbol, with the labels of their rules."""
    renderer, context = layer.renderer().clone(), QgsRenderContext()
    context.expressionContext().appendScopes(
        QgsExpressionContextUtils.globalProjectLayerScopes(layer)
    )
    renderer.startRender(context, layer.fields())
    rules = {rule.ruleKey(): rule.label() for rule in renderer.rootRule().descendants()}
    found = []
    for row in layer.getFeatures(request):
        context.expressionContext().setFeature(row)
        if renderer.willRenderFeature(row, context):
            keys = renderer.legendKeysForFeature(row, context)
            found.append((row, [rules[key] for key in keys if key in rules]))
    renderer.stopRender(context)
    return found


def tip(layer: QgsVectorLayer, row: object) -> str:
    context = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    context.setFeature(row)
    return QgsExpression.replaceExpressionText(layer.mapTipTemplate(), context)


def side_of_traffic(layer: QgsVectorLayer) -> str:
    """Tell on which side of the street the eastbound direction of its segment 7 is drawn."""
    layer.setSubsetString('"segment_id" = 7 AND "run_id" = \'second\' AND "period" = \'am\'')
    line = next(layer.getFeatures()).geometry().boundingBox()
    y = line.center().y()
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setOutputSize(QSize(300, 300))
    settings.setBackgroundColor(QColor("white"))
    settings.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    half = line.width() / 2
    settings.setExtent(QgsRectangle(line.xMinimum(), y - half, line.xMaximum(), y + half))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    dark = [row for row in range(300) if image.pixelColor(150, row).lightness() < 250]
    return "nowhere" if not dark else "north" if sum(dark) / len(dark) < 149.5 else "south"


def main(path: str, folder: Path) -> None:
    messages = []
    QgsApplication.messageLog().messageReceived.connect(
        lambda text, tag, level: messages.append(f"{tag}: {text}")
    )
    layers = {name: open_layer(path, name) for name in LAYERS}
    peak, link, edit, area = layers.values()
    at = QgsFeatureRequest().setFilterExpression("\"ts\" = '2026-11-23T08:00:00.000Z'")
    rows = {
        "scenario_link_peak": drawn(peak, QgsFeatureRequest()),
        "scenario_link": drawn(link, at),
        "scenario_edit": drawn(edit, QgsFeatureRequest()),
        "scenario_isochrone": drawn(area, QgsFeatureRequest()),
    }

    def count(name: str, found: "list[tuple[object, list[str]]]") -> "dict[str, int]":
        parts = ("run_id", "period") if name == "scenario_link_peak" else ("run_id",)
        return dict(Counter(" ".join(row[part] for part in parts) for row, _ in found))

    of = {str(row["segment_id"]): (row, labels) for row, labels in rows["scenario_link_peak"]}
    one = open_layer(path, "scenario_link_peak", "\"run_id\" = 'first' AND \"period\" = 'am'")
    areas = [
        (row["network"], row["minutes"], [text for text in labels if text], tip(area, row))
        for row, labels in rows["scenario_isochrone"]
    ]
    area.setSubsetString("\"run_id\" = 'first' AND \"period\" = 'am'")
    morning = drawn(area, QgsFeatureRequest())
    time = link.temporalProperties()
    seconds = QgsUnitTypes.fromUnitToUnitFactor(time.durationUnits(), QgsUnitTypes.TemporalSeconds)
    sides = {"right": side_of_traffic(open_layer(path, "scenario_link_peak"))}
    left = open_layer(path, "scenario_link_peak")
    style = folder / "left.qml"
    if style.exists():
        left.loadNamedStyle(str(style))
        sides["left"] = side_of_traffic(left)
    answer = {
        "renderers": {name: layer.renderer().type() for name, layer in layers.items()},
        "drawn": {name: count(name, found) for name, found in rows.items()},
        "filtered": count("scenario_link_peak", drawn(one, QgsFeatureRequest())),
        "labels": {key: [text for text in labels if text] for key, (_, labels) in of.items()},
        "tips": {key: tip(peak, row) for key, (row, _) in of.items()},
        "areas": areas,
        "area_filtered": count("scenario_link_peak", morning),  # a row per period, too
        "edit_tip": tip(edit, next(edit.getFeatures())),
        "temporal": {
            "active": time.isActive(),
            "field": time.startField(),
            "seconds": time.fixedDuration() * seconds,
        },
        "frame": sum(1 for _ in link.getFeatures(at)),
        "side": sides,
        "messages": messages,
    }
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    main(sys.argv[1], Path(sys.argv[2]))
