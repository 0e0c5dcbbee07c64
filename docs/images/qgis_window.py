"""Take a picture of QGIS with a forecast open and its clock switched on.

Run by QGIS itself, as `make images` does, for the demo's GeoPackage or for a project::

    STGRAPH_GPKG=demo/forecast.gpkg STGRAPH_PNG=qgis.png qgis --code docs/images/qgis_window.py
    STGRAPH_GPKG=demo/scenario.gpkg STGRAPH_LAYERS=scenario_link_peak,scenario_edit ...
    STGRAPH_PNG=qgis-postgis.png qgis --project city.qgz --code docs/images/qgis_window.py
"""

import os
import traceback

from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsProject
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QAbstractButton, QDockWidget, QToolBar
from qgis.utils import iface

LAYERS = os.environ.get("STGRAPH_LAYERS", "edges,forecast").split(",")
METRES = "EPSG:2193" if "forecast" in LAYERS else "EPSG:32631"  # Auckland, the simulated city
FRAME = 12  # noon of the day after
SHOWN = {"Layers"} if "STGRAPH_LAYERS" in os.environ else {"Layers", "Temporal Controller"}
TOOLS = {"mFileToolBar", "mMapNavToolBar", "mAttributesToolBar"}


def in_turn(*steps):
    """Run steps one after the other, and leave QGIS when one of them fails."""
    if not steps:
        os._exit(0)  # no question about unsaved changes
    try:
        steps[0]()
    except Exception:  # noqa: BLE001  # in QGIS a traceback would open a window and wait
        traceback.print_exc()
        os._exit(1)
    QTimer.singleShot(2000, lambda: in_turn(*steps[1:]))


def tidy_window():
    """Show the layers and the temporal controller only."""
    window = iface.mainWindow()
    window.resize(1280, 800)
    for bar in window.findChildren(QToolBar):
        bar.setVisible(bar.objectName() in TOOLS)
    for dock in window.findChildren(QDockWidget):
        dock.setVisible(dock.objectName() in SHOWN)


def open_layers():
    """Open the edges and the forecast as a user does; their styles come with them."""
    for name in LAYERS:
        iface.addVectorLayer(f"{os.environ['STGRAPH_GPKG']}|layername={name}", name, "ogr")


def place_map():
    """Look at the stations in metres, not in degrees."""
    shown = "forecast" if "forecast" in LAYERS else LAYERS[0]
    (layer,) = QgsProject.instance().mapLayersByName(shown)
    metres = QgsCoordinateReferenceSystem(METRES)
    QgsProject.instance().setCrs(metres)
    shift = QgsCoordinateTransform(layer.crs(), metres, QgsProject.instance())
    box = shift.transformBoundingBox(layer.extent())
    box.scale(1.15)
    iface.mapCanvas().setExtent(box)
    iface.layerTreeView().expandAllNodes()


def start_clock():
    """Press the buttons that docs/qgis.md names, then go to one step."""
    controller = next(
        dock
        for dock in iface.mainWindow().findChildren(QDockWidget)
        if dock.objectName() == "Temporal Controller"
    )
    for button in ("mNavigationAnimated", "mSetRangeButton"):
        controller.findChild(QAbstractButton, button).click()
    iface.mapCanvas().temporalController().setCurrentFrameNumber(FRAME)


def take_picture():
    """Save the window as a picture."""
    iface.mainWindow().grab().save(os.environ["STGRAPH_PNG"])


def look_at_project():
    """Show what the project brought along, and go to one step; its clock runs already."""
    iface.messageBar().clearWidgets()  # that an older QGIS made the project
    toggle = next(
        dock
        for dock in iface.mainWindow().findChildren(QDockWidget)
        if dock.objectName() == "Temporal Controller"
    )
    toggle.setFixedHeight(110)
    iface.mapCanvas().zoomToFullExtent()
    iface.mapCanvas().temporalController().setCurrentFrameNumber(int(os.environ["STGRAPH_FRAME"]))
    for group in QgsProject.instance().layerTreeRoot().findGroups(True):
        group.setExpanded(True)


if "STGRAPH_LAYERS" in os.environ:
    STEPS = (tidy_window, open_layers, place_map, take_picture)
elif "STGRAPH_GPKG" in os.environ:
    STEPS = (tidy_window, open_layers, place_map, start_clock, take_picture)
else:
    STEPS = (tidy_window, look_at_project, take_picture)
QTimer.singleShot(2000, lambda: in_turn(*STEPS))
