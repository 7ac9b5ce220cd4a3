// Restores the open image, or what is selected of it, by the command pssr2, and opens the result with the scan as an
// overlay. Another macro may call it without its dialog, with the weights as the argument:
//   runMacro("/path/of/pssr2_restore.ijm", "em_2x");
requires("1.52i");
if (nImages == 0)
	exit("Open the scan to restore first.");

command = call("ij.Prefs.get", "pssr2.command", "pssr2");
weights = call("ij.Prefs.get", "pssr2.weights", "em_2x");
if (getArgument() != "") {
	weights = getArgument();
} else {
	Dialog.create("Restore by pssr2");
	Dialog.addString("Command", command, 50);
	Dialog.addMessage("pssr2, or its full path, which 'which pssr2' (Windows: 'where pssr2') prints.");
	Dialog.addString("Weights", weights, 50);
	Dialog.addMessage("em (4x), em_2x, em_denoise, fluo_2x, fluo_denoise, or the path of a model.pt.");
	Dialog.show();
	command = String.trim(Dialog.getString());
	weights = String.trim(Dialog.getString());
	call("ij.Prefs.set", "pssr2.command", command);
	call("ij.Prefs.set", "pssr2.weights", weights);
}

title = getTitle();
name = title;
if (lastIndexOf(name, ".") > 0)
	name = substring(name, 0, lastIndexOf(name, "."));
scanFile = getDirectory("temp") + "pssr2_scan.tif";
restoredFile = getDirectory("temp") + "pssr2_restored.tif";
if (File.exists(restoredFile))
	ok = File.delete(restoredFile);

// A copy of the selection, or of the whole image: the open one keeps its name and its file.
setBatchMode(true);
run("Duplicate...", "title=pssr2_scan duplicate");
scan = getImageID();
saveAs("Tiff", scanFile);
answer = exec(command, "restore", scanFile, restoredFile, "--weights", weights);
if (!File.exists(restoredFile)) {
	close();
	exit("pssr2 restored nothing " + answer + "\nRun this in a terminal to see why:\n" + command + " restore \"" + scanFile
		+ "\" \"" + restoredFile + "\" --weights \"" + weights + "\"");
}
open(restoredFile);
restored = getImageID();
rename(name + ", restored");
getDimensions(width, height, channels, slices, frames);
planes = nSlices;

// The scan, as large as the result and without interpolation, lies over each plane; it is hidden at first.
selectImage(scan);
run("Scale...", "x=- y=- width=" + width + " height=" + height + " interpolation=None average process create title=pssr2_over");
over = getImageID();
if (nSlices == planes) {
	for (plane = 1; plane <= planes; plane++) {
		selectImage(over);
		setSlice(plane);
		run("Duplicate...", "title=pssr2_plane");
		single = getImageID();
		selectImage(restored);
		setSlice(plane);
		run("Add Image...", "image=pssr2_plane x=0 y=0 opacity=100");
		if (planes > 1)
			Overlay.setPosition(plane);
		selectImage(single);
		close();
	}
	selectImage(restored);
	setSlice(1);
	Overlay.hide;
}
selectImage(over);
close();
selectImage(scan);
close();
selectImage(restored);
setBatchMode("exit and display");
showStatus(title + ": restored by " + weights + "; Image > Overlay > Show Overlay shows the scan");
