"""Run by the Python that has QGIS: open PostGIS layers as a user would and write down what is seen.

Not a test module. The argument is a JSON file: `source` (how to reach the database), `layers`
(schema and table each), `places` (where to look at colours, x and y per layer), `frames` (starts
of frames), `seconds` (their length), `save` (save a style as the default of the first layer).
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
    QgsPointXY,
    QgsProviderRegistry,
    QgsRectangle,
    QgsSingleSymbolRenderer,
    QgsSymbol,
    QgsVectorLayer,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QDateTime, QSize, Qt
from qgis.PyQt.QtGui import QColor


def open_layer(source, schema, table):
    """Return a layer without any hint of its key."""
    return QgsVectorLayer(f'{source} table="{schema}"."{table}" (geom)', table, "postgres")


def look(layer, places, frames, seconds, target):
    """Return the colours at some places, per frame; None is a frame without time."""
    colours = []
    for number, frame in enumerate(frames):
        settings = QgsMapSettings()
        settings.setLayers([layer])
        settings.setOutputSize(QSize(500, 400))
        settings.setBackgroundColor(QColor("white"))
        settings.setFlag(QgsMapSettings.DrawLabeling, False)
        settings.setDestinationCrs(layer.crs())
        extent = QgsRectangle(layer.extent())
        extent.scale(1.2)
        settings.setExtent(extent)
        if frame is not None:
            start = QDateTime.fromString(frame, Qt.ISODate)
            settings.setIsTemporal(True)
            settings.setTemporalRange(QgsDateTimeRange(start, start.addSecs(seconds), True, False))
        job = QgsMapRendererParallelJob(settings)
        job.start()
        job.waitForFinished()
        image = job.renderedImage()
        image.save(f"{target}{number}.png")
        pixels = [settings.mapToPixel().transform(QgsPointXY(x, y)) for x, y in places]
        colours.append([image.pixelColor(round(p.x()), round(p.y())).name() for p in pixels])
    return colours


def describe(layer):
    """Return what a user sees of a layer before drawing it."""
    renderer = layer.renderer()
    graduated = renderer is not None and renderer.type() == "graduatedSymbol"
    context = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    context.setFeature(next(layer.getFeatures()))
    return {
        "valid": layer.isValid(),
        "features": layer.featureCount(),
        "geometry": QgsWkbTypes.displayString(layer.wkbType()),
        "crs": layer.crs().authid(),
        "renderer": renderer.type(),
        "limits": [r.upperValue() for r in renderer.ranges()] if graduated else [],
        "aliases": {field.name(): field.alias() for field in layer.fields()},
        "tip": QgsExpression.replaceExpressionText(layer.mapTipTemplate(), context),
        "styles": layer.listStylesInDatabase()[0],
    }


def identify(layer):
    """Return the attributes of the row that a click on the last feature asks for, by its key."""
    last = max(feature.id() for feature in layer.getFeatures())
    return next(layer.getFeatures(QgsFeatureRequest(last))).attributeMap()


def save_own_style(layer):
    """Save another look as the layer's default, as the button in its properties does."""
    layer.setRenderer(QgsSingleSymbolRenderer(QgsSymbol.defaultSymbol(layer.geometryType())))
    return layer.saveStyleToDatabase("my own", "", True, "")


def browse(source, schema):
    """Return the tables with geometry that the browser lists: type, CRS and key of each."""
    provider = QgsProviderRegistry.instance().providerMetadata("postgres")
    tables = provider.createConnection(source, {}).tables(schema)
    return {
        table.tableName(): [
            [QgsWkbTypes.displayString(t.wkbType) for t in table.geometryColumnTypes()],
            [t.crs.authid() for t in table.geometryColumnTypes()],
            table.primaryKeyColumns(),
        ]
        for table in tables
        if table.geometryColumn()
    }


def main(task, folder):
    messages = []
    QgsApplication.messageLog().messageReceived.connect(
        lambda text, tag, level: messages.append(f"{tag}: {text}")
    )
    schemas = {schema for schema, _ in task["layers"]}
    browsed = {schema: browse(task["source"], schema) for schema in schemas}
    answer = {"layers": {}, "messages": messages, "browser": browsed}
    for schema, table in task["layers"]:
        layer = open_layer(task["source"], schema, table)
        if not layer.isValid():
            answer["layers"][f"{schema}.{table}"] = {"valid": False}
            continue
        seen = describe(layer)
        if table == "forecast_latest":
            layer.loadDefaultStyle()  # the bare constructor resets the time settings
            row = identify(layer)
            seen["identified"] = [row["node_id"], row["horizon"], row["fid"]]
        seen["temporal"] = layer.temporalProperties().isActive()
        frames = task["frames"] if seen["temporal"] else [None]
        target = folder / f"{schema}_{table}_"
        seen["colours"] = look(layer, task["places"][schema], frames, task["seconds"], target)
        answer["layers"][f"{schema}.{table}"] = seen
    if task.get("save"):
        schema, table = task["layers"][0]
        answer["saved"] = save_own_style(open_layer(task["save"], schema, table))
    (folder / "answer.json").write_text(json.dumps(answer, default=str))


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).parent)
